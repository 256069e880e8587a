"""From labelled image files to a data set: finding, decoding, splitting."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ensgan.caches import cache_folder
from ensgan.data import levels
from ensgan.data.archive import CHANNELS
from ensgan.data.decode import NOTHING, Findings, decode_files, refuse, relative
from ensgan.data.picture import FITS, Box, Job, Preparation, is_picture
from ensgan.data.request import Option, Request
from ensgan.data.split import SPLITS, shared_groups, stratified_split
from ensgan.errors import DataError
from ensgan.types import Dataset, Int64Array, Samples, UInt8Array

OPTIONS = (
    CHANNELS,
    Option("window", str, "auto", "grey window of files with more than 8 bits", levels.WINDOWS),
    Option("fit", str, "crop", "what makes an image square", FITS),
    Option("val_share", float, 0.1, "share of a seeded validation split", minimum=0, maximum=0.9),
    Option("test_share", float, 0.2, "share of a seeded test split", minimum=0, maximum=0.9),
    Option("licence", str, None, "how the data may be used, for the record"),
    Option("cache", bool, True, "keep the decoded images for the next run"),
)


@dataclass(frozen=True)
class Record:
    """One labelled image file.

    Attributes:
        path, label: the file and its class index.
        split: ``train``, ``val`` or ``test`` where it is given.
        patient: whose image it is, "" when unknown.
        box, mask, apply_mask: what of the image to keep.
    """

    path: Path
    label: int
    split: str | None = None
    patient: str = ""
    box: Box | None = None
    mask: Path | None = None
    apply_mask: bool = False


def picture_files(root: Path) -> tuple[Path, ...]:
    """All image files below ``root``, sorted; hidden ones are left out.

    Raises:
        DataError: links that lead out of the folder, or folders that cannot be listed.
    """
    base = root.resolve()
    found, problems = [], []

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename} cannot be listed ({error.strerror})")

    for folder, folders, files in os.walk(root, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in (*folders, *sorted(files)):
            path = Path(folder) / name
            if name.startswith("."):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(base):
                problems.append(f"{relative(path, root)} is a link that leads out of the folder")
            elif path.is_symlink() and path.is_dir():
                problems.append(f"{relative(path, root)} is a link to a folder: copy it instead")
            elif name in files and is_picture(path):
                found.append(path)
    refuse(f"{root} cannot be used", problems)
    return tuple(found)


def inside(root: Path, name: str) -> Path | None:
    """``root/name``, or None when that is not below ``root`` (``..``, absolute, links)."""
    path = root / name
    try:
        within = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL in the name
        return None
    return path if within and not Path(name).is_absolute() else None


def build(
    request: Request,
    records: Sequence[Record],
    class_names: tuple[str, ...],
    *,
    source: str,
    border: float = 0.0,
    found: Findings = NOTHING,
    others: Sequence[Path] = (),
) -> Dataset:
    """Decode the files, split them and put the data set together.

    Args:
        request, records, class_names, source: what to build.
        border: margin around boxes.
        found: problems known already; they come in one list with those of the files.
        others: files without a record, because of these problems: decoded to see theirs.

    Raises:
        DataError: unusable files, a patient in two splits, or a class too small to split.
    """
    root = request.root
    channels = request.options["channels"]
    preparation = Preparation(
        request.image_size,
        None if channels is None else int(channels),
        str(request.option("window")),
        str(request.option("fit")),
        border,
    )
    leaked = _leaks(request, records, [record.patient for record in records])
    found = replace(found, problems=(*found.problems, *leaked))
    jobs = [Job(one.path, one.box, one.mask, one.apply_mask) for one in records]
    images, tags = decode_files(
        [*jobs, *map(Job, others)],
        preparation,
        root=root,
        cache=cache_folder() if request.options["cache"] else None,
        on_progress=request.on_progress,
        found=found,
    )
    labels = np.array([record.label for record in records], np.int64)
    indices = _splits(request, records, labels, _patients(records, tags), class_names)
    splits = {name: _samples(images, labels, rows) for name, rows in indices.items()}
    return Dataset(
        request.name,
        splits["train"],
        splits["val"],
        splits["test"],
        class_names,
        licence=request.text("licence") or "",
        source=source,
    )


def _samples(images: UInt8Array, labels: Int64Array, rows: Int64Array) -> Samples:
    return Samples(images[rows], labels[rows])


def _patients(records: Sequence[Record], tags: Sequence[str]) -> tuple[str, ...]:
    """Patients as named by the caller, else by the DICOM files, else unknown.

    One tag shared by all files says that they were made anonymous, not that there is one patient.
    """
    if any(record.patient for record in records):
        return tuple(record.patient for record in records)
    return tuple(tags) if len(set(tags) - {""}) > 1 else ("",) * len(records)


def _leaks(request: Request, records: Sequence[Record], patients: Sequence[str]) -> list[str]:
    """Images whose patient is in another split too."""
    split_of = [record.split or "" for record in records]
    return [
        f"{relative(records[row].path, request.root)} ({split_of[row]}): images of one patient "
        "are in two splits"
        for row in shared_groups(patients, split_of)
    ]


def _splits(
    request: Request,
    records: Sequence[Record],
    labels: Int64Array,
    patients: Sequence[str],
    class_names: tuple[str, ...],
) -> dict[str, Int64Array]:
    given = {record.split for record in records}
    val_share, test_share = (float(request.option(name)) for name in ("val_share", "test_share"))
    if given == {None}:
        return stratified_split(
            labels,
            patients,
            val_share=val_share,
            test_share=test_share,
            class_names=class_names,
            seed=request.seed,
        )
    refuse("the splits cannot be used", _leaks(request, records, patients))
    split_of = [record.split or "" for record in records]
    indices = {
        name: np.flatnonzero([split == name for split in split_of]).astype(np.int64)
        for name in SPLITS
    }
    empty = [name for name in ("train", "test") if not len(indices[name])]
    if empty:
        raise DataError(f"no image is in the split {' or '.join(empty)}: put some there")
    if not len(indices["val"]) and val_share > 0:
        train = indices["train"]
        parts = stratified_split(
            labels[train],
            [patients[row] for row in train.tolist()],
            val_share=val_share,
            test_share=0.0,
            class_names=class_names,
            seed=request.seed,
        )
        indices["train"], indices["val"] = train[parts["train"]], train[parts["val"]]
    return indices
