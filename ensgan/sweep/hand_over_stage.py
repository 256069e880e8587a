"""Handing over: the table, the memorisation measurement, and the artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ensgan import __version__, downstream, ensemble, metrics, zoo
from ensgan.ensemble.manifest import CARD, MANIFEST
from ensgan.errors import DataError, EnsganError, InputError, IntegrityError
from ensgan.files import content_key, map_array, read_json, write_json
from ensgan.inputs import explained
from ensgan.sweep.external_members import card_facts
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.manifest import Earlier
from ensgan.sweep.records import MemberResult
from ensgan.sweep.resolving import Resolved
from ensgan.types import Selection, gan_of

REVISION = 1
"""Raise it when a change of this module changes its results."""
HELD_OUT = "val"
"""The split that memorisation is compared with; the test split serves the downstream test only."""
NEAREST = 8
"""Images per member that are listed with their nearest training image."""


def save_table(inputs: Inputs, table: downstream.DownstreamTable) -> Path:
    """Write the downstream table beside the other results."""
    value = table.to_json()
    path = inputs.folder.file("evaluate", f"table-{content_key(value)}.json")
    if content_key(_value_of(path)) != content_key(value):
        write_json(path, value)
    return path


def _value_of(path: Path) -> Any:
    """The content of a JSON file; None if it is absent or damaged."""
    try:
        return read_json(path)
    except DataError:
        return None


def measure_memorisation(
    resolved: Resolved, inputs: Inputs, chosen: Sequence[MemberResult]
) -> Path:
    """Measure memorisation of the chosen members and of their union, or find it measured.

    Returns:
        A JSON file: ``ensemble`` and ``members`` hold summaries, ``nearest`` the images that lie
        nearest to a training image (indices and distances, no pixels). If this data set cannot be
        measured, ``problem`` says why instead.
    """
    features = {member.name: member.features for member in chosen}
    reference, dataset = inputs.scoring.reference, resolved.dataset
    names = [path.name for path in features.values()]
    key = content_key(REVISION, reference.name, dataset.val.key, names)
    path = inputs.folder.file("privacy", f"memorisation-{key}.json")
    known = _value_of(path)
    # Early versions wrote no key.
    if isinstance(known, dict) and known.get("key", key) == key:
        measured = known.get("members", features)  # absent if it could not be measured
        if isinstance(measured, dict) and set(measured) == set(features):
            return path
    for member in chosen:
        member.unchanged("features")
    head = {
        "key": key,
        "held_out": HELD_OUT,
        "held_out_images": len(dataset.val),
        "train_images": len(dataset.train),
        "extractor": inputs.scoring.extractor_key,
        "copy_ratio": metrics.COPY_RATIO,
    }
    try:
        held_out = inputs.held_out(dataset.val)
        value = _measured(reference, held_out, features, inputs.scoring.backend)
    except InputError as error:
        value = {"problem": str(error)}
    write_json(path, {**head, **value})
    return path


def _measured(
    train: Path, held_out: Path, features: Mapping[str, Path], backend: str
) -> dict[str, Any]:
    def load(path: Path) -> Any:
        return map_array(path, larger=True)

    reference = metrics.MemorisationReference(load(train), load(held_out), backend=backend)
    results = {name: reference.measure(load(path), name=name) for name, path in features.items()}
    return {
        "ensemble": _finite(metrics.Memorisation.union(list(results.values())).row()),
        "members": {name: _finite(result.row()) for name, result in results.items()},
        "nearest": {name: _nearest(result) for name, result in results.items()},
    }


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for JSON: None for values that are not finite (a median of infinite ratios)."""
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


def hand_over(
    resolved: Resolved,
    inputs: Inputs,
    chosen: Sequence[MemberResult],
    selected: Selection,
    table: downstream.DownstreamTable,
    privacy: Path,
    alarms: Sequence[str],
    earlier: Earlier | None = None,
) -> Path:
    """Write the selected ensemble as one artifact; its folder.

    Args:
        chosen: the selected members.
        alarms: what its card must say of it, a sentence each.
        privacy: as :func:`measure_memorisation` writes it.
        earlier: the pool that this one grew from.

    Raises:
        IntegrityError: weights have changed since they were trained.
    """
    point, dataset = selected.point, resolved.dataset
    rows = {row.name: row for row in resolved.gans}
    shares = point.weights or (1 / len(point.members),) * len(point.members)
    facts = _facts(resolved, inputs, chosen, selected, table, privacy)
    facts["provenance"]["cautions"] = list(alarms)
    if earlier is not None and earlier.added:
        facts["provenance"]["grown_from"] = earlier.facts()
    hashes = [member.sha256 for member in chosen]
    path = inputs.folder.file("ensemble", content_key(REVISION, hashes, shares, facts))
    if _weights_of(path) == hashes:
        return path
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    sources = []
    for member, share in zip(chosen, shares, strict=True):
        row = rows.get(gan_of(member.name)) or _row_of(member)
        # A member without a row came as images and stays a bank.
        kind: Literal["gan", "bank"] = "bank" if row is None else "gan"
        sources.append(ensemble.MemberSource(member.name, share, member.weights, row, kind))
    ensemble.write_ensemble(
        path,
        members=sources,
        shape=dataset.shape,
        class_names=dataset.class_names,
        class_shares=tuple(float(share) for share in counts / counts.sum()),
        is_ours=_is_rest,
        **facts,
    )
    if _weights_of(path) != hashes:
        raise IntegrityError(
            f"weights of {', '.join(point.members)} have changed since they were trained: delete "
            f"their files in {inputs.folder.path / 'train'} and run `ensgan sweep` again"
        )
    return path


def _row_of(member: MemberResult) -> zoo.GANSpec | None:
    """The row of a member that joined from another sweep; None for a bank."""
    record = member.weights.with_suffix(".json")
    with explained(f"{record} is damaged, it tells no GAN's row"):
        return zoo.GANSpec.from_json(read_json(record)["row"]) if record.is_file() else None


def _is_rest(path: Path) -> bool:
    """Whether a folder holds nothing but files of an ensemble, complete or not."""
    own = {path / name for name in (MANIFEST, CARD)}
    own.update((path / "members").glob("*.safetensors"))
    return own.issuperset(file for file in path.rglob("*") if file.is_file())


def _weights_of(path: Path) -> list[str] | None:
    """Hashes of an ensemble's members in order; None if there is no intact ensemble."""
    try:
        manifest = ensemble.verify_folder(path)
    except EnsganError:
        return None
    return [manifest.files[member.file].sha256 for member in manifest.members]


def _facts(
    resolved: Resolved,
    inputs: Inputs,
    members: Sequence[MemberResult],
    selected: Selection,
    table: downstream.DownstreamTable,
    privacy: Path,
) -> dict[str, Any]:
    """The facts of the ensemble's card and manifest, apart from its members."""
    spec, dataset, point = resolved.spec, resolved.dataset, selected.point
    external = card_facts(spec.members, members)
    other_form = {} if spec.search.objectives == "paper" else {"objectives": spec.search.objectives}
    trained = dict.fromkeys(gan_of(member.name) for member in members)
    varied = {gan: dict(resolved.variations[gan]) for gan in trained if gan in resolved.variations}
    measured = read_json(privacy)
    shown = ("problem", "held_out", "held_out_images", "train_images", "ensemble", "members")
    return {
        "metrics": {
            **point.named(),
            "rule": selected.rule,
            "reason": selected.reason,
            "downstream": {k: v for k, v in table.to_json().items() if k != "runs"},
            "memorisation": {name: measured[name] for name in shown if name in measured},
        },
        "dataset": {
            "name": dataset.name,
            "key": dataset.key,
            "licence": dataset.licence,
            "source": dataset.source,
            "train_images": len(dataset.train),
        },
        "extractor": {
            "name": spec.embed.extractor,
            "key": inputs.scoring.extractor_key,
            "k": spec.score.k,
            "images_per_member": resolved.count,
        },
        "provenance": {
            "sweep": spec.name,
            "seed": spec.seed,
            "ensgan": __version__,
            "weights": spec.train.weights,
            "inter": spec.search.inter,
            **({"outside": external} if external else {}),
            **({"variations": varied} if varied else {}),
            **other_form,
            "known_failures": [f"{m.name}: {note}" for m in members for note in m.health],
        },
        "licences": _licences(resolved, inputs, external),
    }


def _licences(
    resolved: Resolved, inputs: Inputs, external: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """One sentence per thing whose terms may bind the ensemble."""
    dataset, extractor = resolved.dataset, resolved.spec.embed.extractor
    return [
        f"data set {dataset.name}: {dataset.licence or 'not stated'}",
        f"generators: trained from scratch on {dataset.name}, its terms may bind them",
        f"extractor {extractor} (used for scoring, not part of this artifact): "
        + (inputs.extractor_licence or "made here, free of terms"),
        *(f"{m}: {_terms(about)}" for m, about in external.items()),
        "code: ensgan, Apache-2.0",
    ]


def _terms(about: Mapping[str, Any]) -> str:
    """Licence of a member from elsewhere."""
    of_sweep = f"trained in sweep {about['sweep']} on the same data" if "sweep" in about else ""
    return str(about.get("licence") or of_sweep or "not stated")
