"""What a report says, gathered from a recorded run: no working folder is needed.

Everything comes out of the tracking store, except real images, which no store ever holds: they are
read from the sweep's own folder, and only when asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ensgan.errors import InputError
from ensgan.report.pictures import image_grid
from ensgan.store import RunRecord, RunStore
from ensgan.types import Front, FrontPoint, Samples, UInt8Array

REAL_SHOWN = 16


@dataclass(frozen=True)
class Content:
    """A recorded sweep as its report shows it; None or empty where nothing is recorded.

    Attributes:
        record: the sweep's run.
        manifest: of the sweep (spec, members, selection, stages, versions).
        front, selected: the front and its chosen point.
        ensemble: ``ensemble.json`` of the artifact.
        table: the downstream table.
        privacy: the memorisation measurement.
        overlap_png, membership_png, selected_png: pictures of the run.
        grids: by GAN, its images over the snapshots.
        real: by title, pictures with real images; only when asked for.
    """

    record: RunRecord
    manifest: Mapping[str, Any]
    front: Front | None = None
    selected: FrontPoint | None = None
    ensemble: Mapping[str, Any] | None = None
    table: Mapping[str, Any] | None = None
    privacy: Mapping[str, Any] | None = None
    overlap_png: bytes | None = None
    membership_png: bytes | None = None
    selected_png: bytes | None = None
    grids: Mapping[str, bytes] = field(default_factory=dict)
    real: Mapping[str, bytes] = field(default_factory=dict)


def collect(store: RunStore, run_id: str, *, show_real: bool = False) -> Content:
    """Read what a sweep's run and the runs below it hold.

    Args:
        show_real: also show real training images; the sweep's folder must be on this machine.

    Raises:
        InputError: no such run, it is not a sweep, or its real images are not here.
        StoreError: the store cannot be reached.
    """
    record = store.get(run_id)
    files = store.files(run_id)
    if record.kind != "sweep" or "manifest.json" not in files:
        what = f"a run of kind '{record.kind}'" if record.kind != "sweep" else "not yet finished"
        raise InputError(
            f"run {run_id} has no report: it is {what}; name a finished sweep of 'ensgan runs'"
        )

    def read(path: str) -> bytes | None:
        return store.read(run_id, path) if path in files else None

    def read_json(path: str) -> Any:
        content = read(path)
        return None if content is None else json.loads(content)

    manifest = read_json("manifest.json")
    front_value = read_json("front/front.json")
    front = None if front_value is None else Front.from_json(front_value, "front.json")
    chosen = tuple(manifest.get("selected", {}).get("members", ()))
    return Content(
        record=record,
        manifest=manifest,
        front=front,
        selected=next((point for point in front or () if point.members == chosen), None),
        ensemble=read_json("ensemble/ensemble.json"),
        table=read_json("downstream/table.json"),
        privacy=read_json("privacy/memorisation.json"),
        overlap_png=read("pool/overlap.png"),
        membership_png=read("pool/membership.png"),
        selected_png=read("grids/selected.png"),
        grids=_grids(store, run_id),
        real=_real_pictures(manifest) if show_real else {},
    )


def _grids(store: RunStore, run_id: str) -> dict[str, bytes]:
    """The image grid of every GAN below a sweep, oldest first."""
    found = {}
    for child in store.children(run_id):
        path = f"grid-{child.name}/{child.name}.png"
        if child.kind == "gan" and path in store.files(child.run_id):
            found[child.name] = store.read(child.run_id, path)
    return found


def _real_pictures(manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """Real training images by class, and the generated images nearest to training ones."""
    folder = Path(manifest["front"]).parents[1]
    path = folder / "data" / f"{manifest['dataset']['key'][:16]}-train.npz"
    if not path.is_file():
        raise InputError(
            f"--show-real needs the sweep's own folder, but {path} is not on this machine: real "
            "images are never recorded"
        )
    train = Samples.load(path)
    rows = [
        (name, train.images[train.labels == label][:REAL_SHOWN])
        for label, name in enumerate(manifest["dataset"]["classes"])
    ]
    pictures = {"Real training images": image_grid(rows)}
    if "privacy" in manifest and Path(manifest["privacy"]).is_file():
        nearest = json.loads(Path(manifest["privacy"]).read_text()).get("nearest", {})
        pairs = _pairs(nearest, manifest["members"], train.images)
        if pairs:
            pictures["Generated images (upper rows) and their nearest training images"] = (
                image_grid(pairs)
            )
    return pictures


def _pairs(
    nearest: Mapping[str, Sequence[Mapping[str, Any]]],
    members: Mapping[str, Any],
    train: UInt8Array,
) -> list[tuple[str, UInt8Array]]:
    rows: list[tuple[str, UInt8Array]] = []
    for name, entries in nearest.items():
        made = Samples.load(Path(members[name]["samples"])).images
        rows.append((name, np.stack([made[entry["image"]] for entry in entries])))
        rows.append(("training", np.stack([train[entry["training_image"]] for entry in entries])))
    return rows
