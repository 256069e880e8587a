"""From labelled image files to a data set, split so that no patient is in two splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ensgan.caches import cache_folder
from ensgan.data.archive import CHANNELS
from ensgan.data.image_files import Found, decode_files
from ensgan.data.levels import WINDOWS
from ensgan.data.prepare import FITS, Job, Preparation
from ensgan.data.request import SPLITS, Option, Request, split_of_folder
from ensgan.errors import DataError
from ensgan.inputs import refuse, relative
from ensgan.types import Dataset, Float64Array, Int64Array, Samples

OPTIONS = (
    CHANNELS,
    Option("window", str, "auto", "grey window of files with more than 8 bits", WINDOWS),
    Option("fit", str, "crop", "what makes an image square", FITS),
    Option("val_share", float, 0.1, "share of a seeded validation split", minimum=0, maximum=0.9),
    Option("test_share", float, 0.2, "share of a seeded test split", minimum=0, maximum=0.9),
    Option("licence", str, None, "how the data may be used, for the record"),
    Option("cache", bool, True, "keep the decoded images for the next run"),
)


@dataclass(frozen=True)
class Record(Job):
    """One image file to read, labelled.

    Attributes:
        label: its class index.
        split: ``train``, ``val`` or ``test`` where it is given.
        patient: whose image it is, "" when unknown.
    """

    label: int = 0
    split: str | None = None
    patient: str = ""


def build(
    request: Request,
    records: Sequence[Record],
    class_names: tuple[str, ...],
    *,
    source: str,
    border: float = 0.0,
    headline: str,
    problems: Sequence[str],
    pictures: Found,
) -> Dataset:
    """Decode the files, split them and put the data set together.

    Args:
        request, records, class_names, source: what to build.
        border: margin around boxes.
        headline, problems: problems known before; they are listed together with those of the files.
        pictures: all image files: those without a record are decoded to see their problems too.

    Raises:
        DataError: unusable files, a patient in two splits, or a class too small to split.
    """
    preparation = Preparation(
        request.image_size,
        request.number("channels"),
        str(request.option("window")),
        str(request.option("fit")),
        border,
    )
    leaked = _leaks(request, records, [record.patient for record in records])
    used = {record.path for record in records}
    others = [Job(path) for path in pictures.files if path not in used]
    decoded = decode_files(
        [*records, *others],
        preparation,
        root=request.root,
        cache=cache_folder() if request.options["cache"] else None,
        on_progress=request.on_progress,
        headline=headline,
        problems=[*problems, *leaked],
    )
    labels = np.array([record.label for record in records], np.int64)
    patients = _patients(records, decoded.patients)
    indices = _splits(request, records, labels, patients, class_names)
    names = [relative(record.path, request.root) for record in records]
    rows_of = (indices[split] for split in SPLITS)
    train, val, test = (Samples(decoded.images[rows], labels[rows]) for rows in rows_of)
    return Dataset(
        request.name,
        train,
        val,
        test,
        class_names,
        licence=request.text("licence") or "",
        source=source,
        files={split: tuple(names[row] for row in rows) for split, rows in indices.items()},
        source_sizes=dict(Counter(decoded.sizes[: len(records)]).most_common()),
        patients=_count(patients, indices),
        warnings=pictures.warnings,
        notes=(*pictures.notes, *decoded.notes),
    )


def _patients(records: Sequence[Record], tags: Sequence[str]) -> tuple[str, ...]:
    """Patients as named by the caller, else by the DICOM files, else unknown.

    A tag shared by all files means that they were anonymised, not that there is one patient.
    """
    if any(record.patient for record in records):
        return tuple(record.patient for record in records)
    return tuple(tags) if len(set(tags) - {""}) > 1 else ("",) * len(records)


def _count(patients: Sequence[str], indices: dict[str, Int64Array]) -> dict[str, int]:
    """Patients by split; nothing where none is known."""
    known = {split: {patients[row] for row in rows} - {""} for split, rows in indices.items()}
    return {split: len(names) for split, names in known.items()} if any(patients) else {}


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
    root = request.root
    folders = {part for one in records for part in one.path.relative_to(root).parts[:-1]}
    named = {name: split for name in sorted(folders) if (split := split_of_folder(name))}
    if given == {None} and len(set(named.values())) > 1:
        raise DataError(
            f"the images lie in the folders {', '.join(named)}, but the table does not name their "
            "split: add a column split, or move the images into one folder for new splits"
        )
    val_share, test_share = (float(request.option(name)) for name in ("val_share", "test_share"))
    deal = partial(
        stratified_split, val_share=val_share, class_names=class_names, seed=request.seed
    )
    if given == {None}:
        return deal(labels, patients, test_share=test_share)
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
        parts = deal(labels[train], [patients[row] for row in train.tolist()], test_share=0.0)
        indices["train"], indices["val"] = train[parts["train"]], train[parts["val"]]
    return indices


def stratified_split(
    labels: Int64Array,
    groups: Sequence[str],
    *,
    val_share: float,
    test_share: float,
    class_names: Sequence[str],
    seed: int,
) -> dict[str, Int64Array]:
    """Indices of the three splits; all images of a group (a patient) stay together.

    Groups are dealt out class by class (a group goes with the rarest of its classes), each to the
    split that is furthest below its share of the group's classes.

    Args:
        labels: int64 [n].
        groups: one name per image; "" means a group of its own.
        val_share, test_share: wanted shares of the images; a share of 0 gives an empty split.
        class_names: for messages.
        seed: decides everything that is random.

    Raises:
        DataError: a class has too few groups for the splits.
    """
    shares = np.array([1 - val_share - test_share, val_share, test_share])
    if shares.min() < 0 or shares[0] <= 0:
        raise DataError(
            f"val_share {val_share:g} and test_share {test_share:g} leave nothing to train on"
        )
    members = _members(groups)
    size = len(class_names)
    counts = np.array([np.bincount(labels[rows], minlength=size) for rows in members])
    needed = int((shares > 0).sum())
    remedy = "add images, merge classes, or give the splits yourself"
    for name, having in zip(class_names, (counts > 0).sum(axis=0), strict=True):
        if having < needed:
            raise DataError(
                f"class '{name}' has {having} patients or images without a patient: at least "
                f"{needed} are needed to put it into {needed} splits; {remedy}"
            )
    totals = counts.sum(axis=0)
    rarest = np.where(counts > 0, totals, np.iinfo(np.int64).max).argmin(axis=1)
    rng = np.random.default_rng(seed)
    order = [rng.permutation(np.flatnonzero(rarest == label)) for label in range(size)]
    # Rare classes first: what is dealt later can still even out the common ones.
    split_of = _deal(counts, np.concatenate([order[label] for label in np.argsort(totals)]), shares)
    for label, name in enumerate(class_names):
        if any(not counts[split_of == split, label].any() for split in np.flatnonzero(shares)):
            raise DataError(
                f"class '{name}' cannot be put into {needed} splits with every patient in one of "
                f"them: {remedy}"
            )
    empty = np.zeros(0, np.int64)
    return {
        name: np.sort(np.concatenate([empty, *(members[i] for i in np.flatnonzero(split_of == s))]))
        for s, name in enumerate(SPLITS)
    }


def _members(groups: Sequence[str]) -> list[Int64Array]:
    """The image indices of each group."""
    names = np.array([group or f"\0{index}" for index, group in enumerate(groups)])
    _, group_of = np.unique(names, return_inverse=True)
    order = np.argsort(group_of, kind="stable").astype(np.int64)
    ends = np.cumsum(np.bincount(group_of))[:-1]
    return np.split(order, ends)


def _deal(counts: Int64Array, order: Int64Array, shares: Float64Array) -> Int64Array:
    """The split of each group [g].

    Args:
        counts: images of each class in each group [g,C].
        order: in which the groups are dealt out [g].
        shares: wanted share of each split; none goes to a split with a share of 0.
    """
    totals = counts.sum(axis=0)
    wanted = np.maximum(np.outer(shares, totals), 1e-9)
    dealt = np.zeros_like(wanted)
    left = (counts > 0).sum(axis=0)
    is_open = (shares > 0)[:, None]
    split_of = np.zeros(len(counts), np.int64)
    for group in order:
        classes = np.flatnonzero(counts[group])
        # A split that has nothing of a class must get this group when no others would be left.
        empty = is_open & (dealt[:, classes] == 0)
        urgent = empty & (empty.sum(axis=0) >= left[classes])
        weights = counts[group, classes] / totals[classes]
        weights /= weights.sum()
        lacking = ((wanted - dealt)[:, classes] / wanted[:, classes]) @ weights
        score = np.where(is_open[:, 0], lacking, -np.inf) + 1e3 * urgent.sum(axis=1)
        split = int(np.argmax(score))
        split_of[group] = split
        dealt[split] += counts[group]
        left[classes] -= 1
    return split_of


def shared_groups(groups: Sequence[str], split_of: Sequence[str]) -> list[int]:
    """Indices of images whose group occurs in another split as well."""
    splits: dict[str, set[str]] = {}
    for group, split in zip(groups, split_of, strict=True):
        splits.setdefault(group, set()).add(split)
    return [index for index, group in enumerate(groups) if group and len(splits[group]) > 1]
