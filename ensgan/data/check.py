"""Contents and problems of a data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ensgan.data.duplicates import NEAR, Pairs, exact_pairs, near_pairs, thumbnails
from ensgan.text import counted
from ensgan.types import Dataset, Samples

_BINS = 16
_EXAMPLES = 20  # duplicate pairs named in the report


@dataclass(frozen=True)
class Intensity:
    """Pixel values of a split, 0…255; ``histogram`` counts them in 16 equal bins."""

    minimum: int
    maximum: int
    mean: float
    std: float
    percentiles: dict[str, float]
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class SplitReport:
    """One split: images, images of each class, SHA-256 over images and labels, intensities.

    ``blank`` counts the images of one grey level; ``patients`` is None where they are not known.
    """

    images: int
    patients: int | None
    classes: dict[str, int]
    sha256: str
    blank: int
    intensity: Intensity


@dataclass(frozen=True)
class DuplicateReport:
    """Pairs of equal (or nearly equal) images.

    Attributes:
        within: pairs inside each split, by split name.
        across: pairs between two splits, by ``"train/test"`` and so on: leakage.
        other_label: pairs whose labels differ.
        examples: the first pairs, each the two files, or ``("train[3]", "test[7]")`` where the
            images come from an array.
    """

    within: dict[str, int]
    across: dict[str, int]
    other_label: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DataReport:
    """What :func:`check` found.

    Attributes:
        name, source, licence, class_names: as the data set has them.
        key: SHA-256 over all splits.
        channels, image_size: shape of one image.
        source_sizes: images by their size before; see :class:`~ensgan.types.Dataset`.
        splits: by name, in the order train, val, test.
        exact, near: equal images, and different images whose thumbnails correlate by at least
            ``near_threshold``; ``near`` is None when it was not asked for.
        problems: what should be corrected before training, one sentence each.
        notes: remarks that need no action, one sentence each.
    """

    name: str
    source: str
    licence: str
    class_names: tuple[str, ...]
    key: str
    channels: int
    image_size: int
    source_sizes: dict[str, int]
    splits: dict[str, SplitReport]
    exact: DuplicateReport
    near: DuplicateReport | None
    near_threshold: float
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether an image of one split is also in another."""
        return any(self.exact.across.values())

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self)


def check(dataset: Dataset, *, near: bool = True) -> DataReport:
    """Describe a data set and look for what would spoil an experiment.

    Args:
        dataset: all splits are read.
        near: look for near duplicates as well (about a minute for 100,000 images).
    """
    splits = {
        name: _split_report(split, dataset.class_names, dataset.patients.get(name))
        for name, split in dataset.splits().items()
    }
    images = np.concatenate([split.images for split in dataset.splits().values()])
    exact = exact_pairs(images)
    exact_report, near_report = _duplicates(dataset, exact), None
    if near:  # among images that differ: each group of equal ones counts once
        rows = np.setdiff1d(np.arange(len(images)), exact.second)
        pairs = near_pairs(thumbnails(images[rows]))
        near_report = _duplicates(dataset, Pairs(rows[pairs.first], rows[pairs.second]))
    return DataReport(
        dataset.name,
        dataset.source,
        dataset.licence,
        dataset.class_names,
        dataset.key,
        dataset.shape.channels,
        dataset.shape.size,
        dataset.source_sizes,
        splits,
        exact_report,
        near_report,
        NEAR,
        (*dataset.warnings, *_problems(splits, exact_report)),
        (*dataset.notes, *_notes(dataset, splits, exact_report, near_report)),
    )


def _split_report(
    split: Samples, class_names: tuple[str, ...], patients: int | None
) -> SplitReport:
    counts = np.bincount(split.labels, minlength=len(class_names))
    levels = np.bincount(split.images.reshape(-1), minlength=256)
    values, total = np.arange(256), max(1, int(levels.sum()))
    mean = float((levels * values).sum() / total)
    spread = float(np.sqrt((levels * (values - mean) ** 2).sum() / total))
    present = np.flatnonzero(levels)
    shares = np.cumsum(levels) / total
    percentiles = {str(p): float(np.searchsorted(shares, p / 100)) for p in (1, 25, 50, 75, 99)}
    flat = split.images.reshape(len(split), int(np.prod(split.images.shape[1:])))
    blank = int((np.ptp(flat, axis=1) == 0).sum())
    return SplitReport(
        len(split),
        patients,
        {name: int(count) for name, count in zip(class_names, counts, strict=True)},
        split.key,
        blank,
        Intensity(
            int(present[0]) if len(present) else 0,
            int(present[-1]) if len(present) else 0,
            round(mean, 3),
            round(spread, 3),
            percentiles,
            tuple(int(n) for n in levels.reshape(_BINS, -1).sum(axis=1)),
        ),
    )


def _duplicates(dataset: Dataset, pairs: Pairs) -> DuplicateReport:
    """Where the images of pairs come from; they are numbered through all splits."""
    splits = dataset.splits()
    names, starts = tuple(splits), np.cumsum([0, *map(len, splits.values())])
    labels = np.concatenate([split.labels for split in splits.values()])
    a, b = (np.searchsorted(starts, rows, "right") - 1 for rows in (pairs.first, pairs.second))

    def place(row: int, split: int) -> str:
        name, index = names[split], int(row - starts[split])
        files = dataset.files.get(name)
        return f"{name}: {files[index]}" if files else f"{name}[{index}]"

    across = {
        f"{names[i]}/{names[j]}": int(((a == i) & (b == j)).sum())
        for i, j in combinations(range(len(names)), 2)
    }
    # Leakage is what a reader must see first.
    shown = np.argsort(a == b, kind="stable")[:_EXAMPLES]
    return DuplicateReport(
        {name: int(((a == i) & (b == i)).sum()) for i, name in enumerate(names)},
        across,
        int((labels[pairs.first] != labels[pairs.second]).sum()),
        tuple((place(pairs.first[p], a[p]), place(pairs.second[p], b[p])) for p in shown),
    )


def _problems(splits: dict[str, SplitReport], exact: DuplicateReport) -> tuple[str, ...]:
    problems = []
    for split, report in splits.items():
        empty = [name for name, count in report.classes.items() if not count]
        if empty:
            problems.append(f"{split} has no image of class {', '.join(empty)}")
        if report.blank:
            problems.append(f"{split} has {counted(report.blank, 'blank image')} (one grey level)")
    for pair, count in exact.across.items():
        if count:
            same = "are the same" if count > 1 else "is the same"
            problems.append(f"{counted(count, 'image')} of {pair} {same}: the splits leak")
    if exact.other_label:
        problems.append(f"{exact.other_label} pairs of equal images have different labels")
    return tuple(problems)


def _notes(
    dataset: Dataset,
    splits: dict[str, SplitReport],
    exact: DuplicateReport,
    near: DuplicateReport | None,
) -> tuple[str, ...]:
    notes = []
    counts = [count for count in splits["train"].classes.values() if count]
    if len(counts) > 1 and max(counts) > 1.5 * min(counts):
        notes.append(
            f"the training classes are unbalanced: the largest has {max(counts) / min(counts):.1f} "
            "times the images of the smallest"
        )
    for split, count in exact.within.items():
        if count:
            notes.append(f"{count} images of {split} repeat another one of {split}")
    for pair, count in (near.across if near else {}).items():
        if count:
            notes.append(
                f"{count} pairs of {pair} are nearly the same image (may be one patient twice)"
            )
    notes += _size_notes(dataset)
    if dataset.files and not dataset.patients:
        notes.append(
            "the patients are not known: images of one may be in two splits (options "
            "patient_column, patient_pattern)"
        )
    if not dataset.licence:
        notes.append("the licence is unknown: make sure that you may use and publish the data")
    return tuple(notes)


def _size_notes(dataset: Dataset) -> list[str]:
    """What bringing the images to one size does to them."""
    side, smaller, oblong = dataset.shape.size, 0, 0
    for size, count in dataset.source_sizes.items():
        width, height = map(int, size.split("×"))
        smaller += count * (min(width, height) < side)
        oblong += count * (width != height)
    notes = []
    if smaller:
        notes.append(f"{smaller:,} images are smaller than {side}×{side} pixels and are enlarged")
    if oblong:
        notes.append(
            f"{oblong:,} images were not square: their middle is cut out, unless the option "
            "fit says otherwise"
        )
    return notes
