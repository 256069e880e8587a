"""Ensembles of external generators: banks added to a pool, a chosen front point handed over."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import __version__, ensemble
from ensgan.data.pool import ImagePool, check_name
from ensgan.errors import InputError, IntegrityError
from ensgan.files import content_key, write_json, write_npz
from ensgan.outputs import claim_output
from ensgan.report import views
from ensgan.search import cautions, member_intra_d, pool_key
from ensgan.store import ENSEMBLE_FOLDER, TAG_DATASET, RunStore
from ensgan.sweep.environment import environment
from ensgan.types import Front, Int64Array, PoolScores, Selection, UInt8Array


def add_bank(
    pool: Path,
    name: str,
    images: UInt8Array,
    labels: Int64Array | None,
    facts: Mapping[str, Any],
    *,
    force: bool = False,
) -> Path:
    """Put a generator's images into a pool folder as ``fake/NAME.npz``, notes as ``NAME.json``.

    Args:
        images: uint8 [n,H,W] or [n,H,W,3].
        labels: int64 [n], or None for a generator without classes.
        facts: JSON-able notes: ``licence``, ``source``, seed …
        force: replace one of the same name.

    Raises:
        InputError: see :func:`claim_bank`.
    """
    path = claim_bank(pool, name, force=force)
    extra = {} if labels is None else {"labels": labels}
    write_npz(path, images=images, **extra)
    write_json(path.with_name(f"{name}.json"), dict(facts))
    return path


def claim_bank(pool: Path, name: str, *, force: bool = False) -> Path:
    """The file for a generator's images in a pool, after checking that it may be written.

    Raises:
        InputError: the name cannot be used or is taken, or the pool cannot be written to.
    """
    fake = pool / "fake"
    path = fake / f"{check_name(name)}.npz"
    for taken in (fake / name, fake / f"{name}.npy"):
        if taken.exists():
            raise InputError(f"{taken} exists already: choose another --name")
    claim_output(path.with_suffix(".json"), force=force)
    return claim_output(path, force=force)


def check_contents(pool: ImagePool, scores: PoolScores, names: Sequence[str]) -> None:
    """Refuse a pool whose images differ from those that were scored.

    Raises:
        InputError: members that the pool lacks.
        IntegrityError: images that have changed since.
    """
    contents = dict(zip(("", *(m.name for m in pool.members)), pool.contents, strict=True))
    missing = [name for name in names if name not in contents]
    if missing:
        raise InputError(f"the pool has no images of {', '.join(missing)}: they were scored")
    if not scores.contents:
        raise InputError(
            "the scores do not say which images they are of: score the image pool with "
            "'ensgan score POOL -o scores.npz'"
        )
    scored = dict(zip(("", *scores.names), scores.contents, strict=True))
    changed = [name or "the real images" for name in ("", *names) if scored[name] != contents[name]]
    if changed:
        raise IntegrityError(
            f"{', '.join(changed)}: the images are not those that were scored; score the pool again"
        )


def bundle(
    folder: Path, *, pool: ImagePool, scores: PoolScores, front: Front, selection: Selection
) -> Path:
    """Write the selected ensemble of a pool as one artifact; its members are sample banks.

    Raises:
        InputError: members without classes where the real images have some, or missing ones.
        IntegrityError: images that are not those that were scored.
    """
    point = selection.point
    check_contents(pool, scores, point.members)
    by_name = {member.name: member for member in pool.members}
    bare = [name for name in point.members if not by_name[name].labelled]
    if bare:
        raise InputError(
            f"{', '.join(bare)}: the images have no classes, the real ones have "
            f"{len(pool.class_names)}; put them into class folders or give labels in an .npz, "
            "or make an ensemble without classes from real images without class folders"
        )
    shares = point.weights or (1 / len(point.members),) * len(point.members)
    counts = np.bincount(pool.real.labels, minlength=len(pool.class_names))
    with tempfile.TemporaryDirectory(prefix="ensgan-banks-") as name:
        members = [
            ensemble.MemberSource(
                member,
                share,
                ensemble.write_bank(Path(name) / f"{index}.st", by_name[member].samples),
                kind="bank",
            )
            for index, (member, share) in enumerate(zip(point.members, shares, strict=True))
        ]
        return ensemble.write_ensemble(
            folder,
            members=members,
            shape=pool.real.shape,
            class_names=pool.class_names,
            class_shares=tuple(float(share) for share in counts / counts.sum()),
            **_facts(pool, scores, front, selection),
        )


def _facts(
    pool: ImagePool, scores: PoolScores, front: Front, selection: Selection
) -> dict[str, Any]:
    """The facts of the manifest and the card, apart from the members."""
    point = selection.point
    chosen = [member for member in pool.members if member.name in point.members]
    licence = pool.facts.get("licence") or "not stated"
    return {
        "metrics": {
            **point.named(),
            "rule": selection.rule,
            "reason": selection.reason,
        },
        "dataset": {**pool.facts, "train_images": len(pool.real)},
        "extractor": {"key": scores.extractor, "k": scores.k},
        "provenance": {
            "ensgan": __version__,
            "pool": pool_key(scores),
            "pool_members": len(scores),
            "front": content_key(front.to_json()["points"]),
            "sampler": front.sampler,
            "seed": front.seed,
            "cautions": list(cautions(point, member_intra_d(scores))),
            "banks": {
                member.name: {
                    "images": len(member.samples),
                    "sha256": member.samples.key,
                    **member.facts,
                }
                for member in chosen
            },
        },
        "licences": [
            f"data set {pool.facts.get('name', '')}: {licence}",
            *(f"{m.name}: {m.facts.get('licence') or 'not stated'}" for m in chosen),
        ],
    }


def record_bundle(
    store: RunStore,
    folder: Path,
    *,
    name: str,
    pool: ImagePool,
    front: Front,
    selection: Selection,
) -> str:
    """Record a bundled ensemble, so that ``ensgan pull RUN`` finds it; the run's ID.

    Raises:
        StoreError: the store cannot be reached.
    """
    dataset, key = str(pool.facts.get("name", "")), pool.facts.get("key", "")
    point, versions = selection.point, environment()
    run_id = store.create_run(
        name,
        kind="sweep",
        params={
            "dataset": dataset,
            "dataset.key": key,
            **views.code(versions),
            **views.version_params(versions),
            "members": len(pool.members),
            "sampler": front.sampler,
            "seed": front.seed,
            "trials": front.trials,
        },
        tags={
            TAG_DATASET: dataset,
            "ensgan.source": "outside generators",
            **views.code_tags(versions),
        },
    )
    try:
        store.log_dataset(
            run_id,
            name=dataset,
            digest=key[:16],
            source=pool.facts.get("source", ""),
            sizes={"train": len(pool.real)},
        )
        store.log_folder(run_id, folder, ENSEMBLE_FOLDER)
        with tempfile.TemporaryDirectory(prefix="ensgan-front-") as place:
            front.save(Path(place) / "front.json")
            store.log_file(run_id, Path(place) / "front.json")
        store.log_metrics(run_id, point.named())
        store.set_tags(run_id, views.chosen_tags(point.members, selection.rule, folder))
    except BaseException:
        store.finish(run_id, "failed")
        raise
    store.finish(run_id)
    return run_id
