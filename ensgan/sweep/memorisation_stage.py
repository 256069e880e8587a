"""Does the selected ensemble repeat its training images? Measured against held-out real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import embedding, metrics
from ensgan.errors import DataError, InputError
from ensgan.files import atomic_path, content_key, read_json, write_json
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Inputs, Resolved
from ensgan.sweep.records import MemberResult

REVISION = 1
HELD_OUT = "val"
"""The test split stays out of everything but the downstream test."""
NEAREST = 8
"""Images a member that are listed with their nearest training image."""


def measure(
    folder: SweepFolder,
    resolved: Resolved,
    inputs: Inputs,
    members: Sequence[MemberResult],
    chosen: Sequence[str],
) -> Path:
    """Measure memorisation of the chosen members and of their union, or find it measured.

    Returns:
        A JSON file: ``ensemble`` and ``members`` hold summaries, ``nearest`` the images that lie
        nearest to a training image (indices and distances, no pixels); ``problem`` instead when
        this data set cannot be measured.
    """
    by_name = {member.name: member for member in members}
    features = {name: by_name[name].features for name in chosen}
    key = content_key(
        REVISION,
        inputs.reference.name,
        resolved.dataset.val.key,
        [path.name for path in features.values()],
    )
    path = folder.file("privacy", f"memorisation-{key}.json")
    if not _is_known(path, key, chosen):
        head = {
            "key": key,
            "held_out": HELD_OUT,
            "held_out_images": len(resolved.dataset.val),
            "train_images": len(resolved.dataset.train),
            "extractor": inputs.extractor_key,
            "copy_ratio": metrics.COPY_RATIO,
        }
        try:
            held_out = _held_out(folder, resolved, inputs)
            value = _measured(inputs.reference, held_out, features, resolved.spec.score.backend)
        except InputError as error:
            value = {"problem": str(error)}
        write_json(path, {**head, **value})
    return path


def _is_known(path: Path, key: str, chosen: Sequence[str]) -> bool:
    """Whether the file holds what was measured of these members."""
    try:
        value = dict(read_json(path))
    except (DataError, TypeError, ValueError):
        return False
    measured = value.get("members", dict.fromkeys(chosen))  # none where it could not be measured
    # Early versions wrote no key.
    return (
        value.get("key", key) == key and isinstance(measured, dict) and set(measured) == {*chosen}
    )


def summary(path: Path) -> dict[str, Any]:
    """What the ensemble's manifest and card say of a measurement."""
    value = read_json(path)
    fields = ("problem", "held_out", "held_out_images", "train_images", "ensemble", "members")
    return {name: value[name] for name in fields if name in value}


def _held_out(folder: SweepFolder, resolved: Resolved, inputs: Inputs) -> Path:
    """Features of the held-out real images, embedded once."""
    key = content_key(resolved.dataset.val.key, inputs.extractor_key)
    path = folder.file("features", f"real-{HELD_OUT}-{key}.npy")
    if not path.exists():
        extractor = embedding.load_extractor(inputs.extractor)
        features = embedding.embed(resolved.dataset.val.images, extractor).features
        with atomic_path(path) as temporary:
            np.save(temporary, features)
    return path


def _measured(
    train: Path, held_out: Path, features: Mapping[str, Path], backend: str
) -> dict[str, Any]:
    def load(path: Path) -> Any:
        return np.load(path, allow_pickle=False, mmap_mode="r")

    reference = metrics.MemorisationReference(load(train), load(held_out), backend=backend)
    found = {name: reference.measure(load(path), name=name) for name, path in features.items()}
    return {
        "ensemble": _finite(metrics.Memorisation.union(list(found.values())).row()),
        "members": {name: _finite(result.row()) for name, result in found.items()},
        "nearest": {name: _nearest(result) for name, result in found.items()},
    }


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON takes it: None for what is no number (a median of infinite ratios)."""
    return {name: value if np.isfinite(value) else None for name, value in row.items()}


def _nearest(result: metrics.Memorisation) -> list[dict[str, Any]]:
    """The images nearest to training, measured in the isolation of that training image."""
    isolation = np.maximum(result.isolation, np.finfo(np.float64).tiny)
    order = np.argsort(result.to_training / isolation, kind="stable")[:NEAREST]
    return [
        {
            "image": int(i),
            "training_image": int(result.training_index[i]),
            "distance": float(result.to_training[i]),
            "isolation": float(result.isolation[i]),
            "copy_candidate": bool(result.copies[i]),
        }
        for i in order
    ]
