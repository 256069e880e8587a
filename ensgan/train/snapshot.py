"""A snapshot on disk: the generator's weights, what is known about them, and signs that its
training fails.

Signs are recorded with the snapshot; they do not stop the training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ensgan.errors import DataError, IntegrityError
from ensgan.files import MISFITS, read_json, sha256_file, write_json
from ensgan.types import Samples
from ensgan.zoo.backbones import Generator
from ensgan.zoo.build import sample
from ensgan.zoo.table import GANSpec

SCHEMA = 1

CHECKED_IMAGES = 64
FLAT_LEVELS = 1.0
OVERFIT_SIGN = 0.9
LEAST_SPREAD = 0.5
"""Of the reals' own; images that vary less within their class are called collapsed."""

_LEAST_IMAGES = 8


@dataclass(frozen=True)
class Snapshot:
    """One member-to-be.

    Attributes:
        member: GAN and step (completed steps).
        path: the safetensors file; a JSON file of the same name lies beside it.
        sha256: of that file.
        metrics: mean losses and logits since the snapshot before.
        health: one sentence per sign of a failing training.
        seconds: of training since the snapshot before.
    """

    member: str
    path: Path
    sha256: str
    metrics: dict[str, float]
    health: tuple[str, ...]
    seconds: float


def snapshot_path(folder: Path, member: str) -> Path:
    """Where the weights of a member lie."""
    return folder / f"{member}.safetensors"


def write_record(snapshot: Snapshot, spec: GANSpec, generator: Generator, weights: str) -> None:
    """Write what is known about weights that are on disk; without it they do not count."""
    metrics = snapshot.metrics.items()
    write_json(
        snapshot.path.with_suffix(".json"),
        {
            "schema": SCHEMA,
            "member": snapshot.member,
            "row": spec.to_json(),
            "channels": generator.shape.channels,
            "image_size": generator.shape.size,
            "num_classes": generator.num_classes,
            "weights": weights,
            "sha256": snapshot.sha256,
            "metrics": {name: value if math.isfinite(value) else None for name, value in metrics},
            "health": list(snapshot.health),
            "seconds": snapshot.seconds,
        },
    )


def is_finished(folder: Path, member: str) -> bool:
    """Whether the snapshot of a member is there, weights and record, sound or not."""
    path = snapshot_path(folder, member)
    return path.with_suffix(".json").exists() and path.exists()


def read_snapshot(folder: Path, member: str) -> Snapshot | None:
    """The snapshot of a member, or None when it was not finished.

    Raises:
        DataError: the record lacks a field.
        IntegrityError: the weights are not what the record says.
    """
    if not is_finished(folder, member):
        return None
    path = snapshot_path(folder, member)
    record_path = path.with_suffix(".json")
    record = read_json(record_path)
    try:
        metrics = {name: float(v) for name, v in record["metrics"].items() if v is not None}
        health, seconds = tuple(record["health"]), float(record["seconds"])
        intact = sha256_file(path) == record["sha256"]
    except MISFITS as error:
        raise DataError(f"{record_path} is not a snapshot record: {error!r}") from error
    if not intact:
        raise IntegrityError(
            f"{path} has changed since it was written: delete it and {record_path.name} to train "
            "that part again"
        )
    return Snapshot(member, path, record["sha256"], metrics, health, seconds)


def examine(generator: Generator, metrics: Mapping[str, float], reals: Samples) -> tuple[str, ...]:
    """One sentence per sign: non-finite weights, constant or collapsed images, overfitted D.

    Args:
        generator: of the snapshot.
        reals: the training split, against which the variety within each class is judged.
        metrics: of the snapshot; ``real_sign`` is the mean sign of the discriminator's output on
            reals, which ADA (Karras et al. 2020) reads as overfitting when it nears 1.
    """
    bad = [
        name
        for name, value in generator.state_dict().items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if bad:
        return (f"non-finite weights: {len(bad)} tensors, e.g. {bad[0]}",)
    signs = _image_signs(generator, reals)
    real_sign = metrics.get("real_sign", 0.0)
    if real_sign > OVERFIT_SIGN:
        signs.append(
            f"discriminator overfit: the mean sign of its output on reals is {real_sign:.2f}"
        )
    return tuple(signs)


def _image_signs(generator: Generator, reals: Samples) -> list[str]:
    labels = np.arange(CHECKED_IMAGES, dtype=np.int64) % generator.num_classes
    images = sample(generator, labels, seed=0)
    levels = images.astype(np.float32).reshape(CHECKED_IMAGES, -1)
    if levels.std(axis=1).max() < FLAT_LEVELS:
        return [f"constant images: all of {CHECKED_IMAGES} are one flat grey"]
    if levels.std(axis=0).mean() < FLAT_LEVELS:
        return [f"constant images: all of {CHECKED_IMAGES} are nearly the same"]
    made, wanted = class_spreads(Samples(images, labels)), class_spreads(reals)
    return [
        f"mode collapse: images of class {label} vary by {made[label]:.0f} grey levels, real ones "
        f"by {spread:.0f}"
        for label, spread in wanted.items()
        if label in made and made[label] < LEAST_SPREAD * spread
    ]


def class_spreads(samples: Samples) -> dict[int, float]:
    """How much images of a class differ: standard deviation over them, mean over pixels.

    Returns:
        grey levels by class, for classes of at least 8 images (of a class, 512 are looked at).
    """
    spreads = {}
    for label in np.unique(samples.labels):
        images = samples.images[np.flatnonzero(samples.labels == label)[:512]]
        if len(images) >= _LEAST_IMAGES:
            spreads[int(label)] = float(images.astype(np.float32).std(axis=0).mean())
    return spreads
