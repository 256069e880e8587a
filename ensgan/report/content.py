"""What a report says, gathered from a recorded run: no working folder is needed.

Everything comes from the tracking store except real images, which are never recorded: they are read
from the sweep's own folder, and only on request.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ensgan.errors import InputError
from ensgan.files import parse_json, read_json
from ensgan.inputs import explained
from ensgan.store import RunRecord, RunStore
from ensgan.sweep.folder import SweepFolder, find_sweep
from ensgan.sweep.manifest import Manifest
from ensgan.sweep.records import MemberResult
from ensgan.text import counted, some
from ensgan.types import Front, FrontPoint, PoolScores, Samples, UInt8Array, gan_of, step_of

REAL_SHOWN = 16
TILE = 128
"""Least width of an image in a grid, pixels: what can be judged by eye."""
_FONT_SIZE, _GAP, _MARGIN = 13, 2, 4
"""Of a grid, pixels: letters, between images, around a label."""
NAMES_SHOWN = 20
"""Added members that a sentence names."""


@dataclass(frozen=True)
class Content:
    """A recorded sweep as its report shows it; None or empty where nothing is recorded.

    Attributes:
        record: the sweep's run.
        manifest: of the sweep (spec, members, selection, stages, versions).
        front, selected: the front and its chosen point.
        validation: shortlist and finalists of the rule ``validated``.
        ensemble: ``ensemble.json`` of the artifact.
        table: the downstream table.
        privacy: the memorisation measurement.
        overlap_png, selected_png: pictures of the run.
        grids: by GAN, its images over the snapshots.
        real: by title, pictures with real images; only when asked for.
        scores: of the pool.
    """

    record: RunRecord
    manifest: Manifest
    front: Front | None = None
    selected: FrontPoint | None = None
    validation: Mapping[str, Any] | None = None
    ensemble: Mapping[str, Any] | None = None
    table: Mapping[str, Any] | None = None
    privacy: Mapping[str, Any] | None = None
    overlap_png: bytes | None = None
    selected_png: bytes | None = None
    grids: Mapping[str, bytes] = field(default_factory=dict)
    real: Mapping[str, bytes] = field(default_factory=dict)
    scores: PoolScores | None = None


def collect(store: RunStore, run_id: str, *, real_from: Path | None = None) -> Content:
    """Read what a sweep's run and the runs below it hold.

    Args:
        real_from: also show real training images, from the sweep's folder in this storage.

    Raises:
        InputError: no such run, it is not a sweep, or its real images are not here.
        DataError: what it recorded is damaged.
        StoreError: the store cannot be reached.
    """
    record = store.get(run_id)
    files = store.files(run_id)
    if record.kind != "sweep" or "manifest.json" not in files:
        raise _no_report(record, files)

    def read(path: str) -> bytes | None:
        return store.read(run_id, path) if path in files else None

    def parsed(path: str, look: Callable[[Any], None] = lambda value: None) -> Any:
        """JSON of a recorded file, after checking that it has what the page shows."""
        if (content := read(path)) is None:
            return None
        value = parse_json(content, f"{path} of run {run_id}")
        with explained(f"{path} of run {run_id} cannot be shown, it is damaged or lacks something"):
            look(value)
        return value

    source = f"manifest.json of run {run_id}"
    # Its paths are not followed: what they name may lie on another machine.
    manifest = Manifest.from_json(parsed("manifest.json"), source, Path())
    front_value = parsed("front/front.json")
    front = None if front_value is None else Front.from_json(front_value, f"the front of {run_id}")
    chosen = manifest.selected
    return Content(
        record=record,
        manifest=manifest,
        front=front,
        selected=None if front is None or chosen is None else chosen.point(front),
        validation=parsed("select/validated.json", _validation),
        ensemble=parsed("ensemble/ensemble.json", _ensemble),
        table=parsed("downstream/table.json", _table),
        privacy=parsed("privacy/memorisation.json", _privacy),
        overlap_png=read("pool/overlap.png"),
        selected_png=read("grids/selected.png"),
        grids=_grids(store, run_id),
        real={} if real_from is None else _real_pictures(find_sweep(run_id, real_from)),
        scores=_scores(read("pool/scores.npz")),
    )


def _no_report(record: RunRecord, files: Mapping[str, int]) -> InputError:
    """Why a run has no report, and what to look at instead."""
    what, instead = f"a run of kind '{record.kind}'", "name a finished sweep of 'ensgan runs'"
    if record.kind == "sweep":
        what = "not yet finished" if record.status == "running" else f"{record.status} early"
    if record.kind == "sweep" and "ensemble/ensemble.json" in files:
        what = "an ensemble that was bundled, with no sweep behind it"
        instead = f"its card is ensemble/README.md: ensgan pull {record.run_id} -o ensemble/"
    return InputError(f"run {record.run_id} has no report: it is {what}; {instead}")


def _scores(content: bytes | None) -> PoolScores | None:
    if content is None:
        return None
    with tempfile.TemporaryDirectory(prefix="ensgan-report-") as folder:
        path = Path(folder) / "scores.npz"
        path.write_bytes(content)
        return PoolScores.load(path)


def _grids(store: RunStore, run_id: str) -> dict[str, bytes]:
    """The image grid of every GAN below a sweep, oldest first."""
    grids = {}
    for child in store.children(run_id):
        path = f"grid-{child.name}/{child.name}.png"
        if child.kind == "gan" and path in store.files(child.run_id):
            grids[child.name] = store.read(child.run_id, path)
    return grids


def _validation(value: Any) -> None:
    """Read everything of a validated choice that the page shows."""
    _ = value["trained"], len(value["shortlist"])
    for row in value["finalists"]:
        _ = len(row["members"]), ", ".join(row["sources"])
        _ = [float(row[name]) for name in ("intra_d", "auc", "merit", "error")]


def _ensemble(value: Any) -> None:
    """Read everything of ``ensemble.json`` that the page shows."""
    for member in value["members"]:
        _ = member["name"], float(member["weight"])
    _ = value["extractor"].items(), list(value["licences"])


def _table(value: Any) -> None:
    """Read everything of a downstream table that the page shows."""
    for row in value["strategies"]:
        _ = row["strategy"], len(row["members"]), row["repeats"]
        for metric in row["metrics"].values():
            _ = [metric[part] for part in ("mean", "low", "high")]
    _ = value["test"], value["reference"]


def _privacy(value: Any) -> None:
    """Read everything of a memorisation measurement that the page shows."""
    if "problem" in value:
        return
    _ = [value[name] for name in ("held_out", "held_out_images", "train_images", "copy_ratio")]
    for row in (value["ensemble"], *value["members"].values()):
        _ = row.items()
    for entries in value["nearest"].values():
        for entry in entries:
            _ = [entry[name] for name in ("image", "training_image", "distance", "isolation")]


def _real_pictures(folder: SweepFolder) -> dict[str, bytes]:
    """Real training images by class, and the generated images nearest to training ones."""
    manifest = folder.read()
    path = folder.real_images(manifest.dataset.key)
    if not path.is_file():
        raise InputError(
            f"--show-real needs the sweep's own folder, but {path} is not on this machine: real "
            "images are never recorded"
        )
    train = Samples.load(path)
    rows = [
        (name, train.images[train.labels == label][:REAL_SHOWN])
        for label, name in enumerate(manifest.dataset.classes)
    ]
    pictures = {"Real training images": image_grid(rows)}
    if manifest.privacy is not None and manifest.privacy.is_file():
        nearest = read_json(manifest.privacy).get("nearest", {})
        pairs = _pairs(nearest, manifest.members, train.images)
        if pairs:
            pictures["Generated images (upper rows) and their nearest training images"] = (
                image_grid(pairs)
            )
    return pictures


def _pairs(
    nearest: Mapping[str, Sequence[Mapping[str, Any]]],
    members: Mapping[str, MemberResult],
    train: UInt8Array,
) -> list[tuple[str, UInt8Array]]:
    rows: list[tuple[str, UInt8Array]] = []
    for name, entries in nearest.items():
        made = Samples.load(members[name].unchanged("samples")).images
        rows.append((name, np.stack([made[entry["image"]] for entry in entries])))
        rows.append(("training", np.stack([train[entry["training_image"]] for entry in entries])))
    return rows


def image_grid(rows: Sequence[tuple[str, UInt8Array]]) -> bytes:
    """Draw rows of images below their labels, enlarged to at least TILE pixels each.

    Args:
        rows: label and images, uint8 [n,H,W] or [n,H,W,C]; all images of one size.

    Returns:
        The PNG file's content.

    Raises:
        InputError: no row has an image.
    """
    columns = max((len(images) for _, images in rows), default=0)
    if columns == 0:
        raise InputError("an image grid needs at least one image")
    side = rows[0][1].shape[1]
    size = side * max(1, ceil(TILE / side))
    cell = size + _GAP
    font = ImageFont.load_default(_FONT_SIZE)
    above = _FONT_SIZE + 2 * _MARGIN
    width = max(columns * cell, *(ceil(font.getlength(label)) + _MARGIN for label, _ in rows))
    # Transparent, with a label that can be read on white and on black pages.
    grey = all(images.ndim == 3 for _, images in rows)
    mode, ink = ("LA", (128, 255)) if grey else ("RGBA", (128, 128, 128, 255))
    canvas = Image.new(mode, (width, len(rows) * (above + cell)))
    draw = ImageDraw.Draw(canvas)
    for y, (label, images) in enumerate(rows):
        top = y * (above + cell) + above
        draw.text((0, top - above // 2), label, fill=ink, font=font, anchor="lm")
        for x, image in enumerate(images):
            tile = Image.fromarray(np.ascontiguousarray(image)).convert(mode)
            tile = tile.resize((size, size), Image.Resampling.NEAREST)
            canvas.paste(tile, (x * cell, top))
    stream = io.BytesIO()
    canvas.save(stream, format="PNG")
    return stream.getvalue()


def by_gan(manifest: Manifest) -> dict[str, list[MemberResult]]:
    """Members by GAN, in step order."""
    groups: dict[str, list[MemberResult]] = {}
    for result in manifest.members.values():
        groups.setdefault(gan_of(result.name), []).append(result)
    for results in groups.values():
        results.sort(key=lambda result: step_of(result.name))
    return groups


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted leaves of the spec, for flat parameters."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= leaves(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def grown_from(manifest: Manifest) -> str:
    """A sentence on the pool that a sweep grew from, "" where it did not grow."""
    earlier = manifest.earlier
    if earlier is None or not earlier.added:
        return ""
    names = some(earlier.added, NAMES_SHOWN)
    run = f"run {earlier.run}" if earlier.run else "a run that was not recorded"
    gone = f", {len(earlier.removed)} taken away" if earlier.removed else ""
    return f"Grown from {run}: {counted(len(earlier.added), 'member')} added ({names}){gone}."


def cautions(content: Content) -> tuple[str, ...]:
    """What is wrong with G*, a sentence each, as its card or else the downstream table says."""
    provenance = (content.ensemble or {}).get("provenance", {})
    on_card = provenance.get("cautions") if isinstance(provenance, Mapping) else None
    in_table = (content.table or {}).get("cautions", ())
    return tuple(map(str, in_table if on_card is None else on_card))
