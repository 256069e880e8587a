"""The radii of every set of a pool as tasks, with the checks of its features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ensgan.errors import DataError
from ensgan.files import content_key, read_npz, sha256_arrays, write_npz
from ensgan.metrics.ball_counts import Classes
from ensgan.metrics.exact_distance import BALL_ARRAYS, Balls
from ensgan.metrics.features import FeatureArray, FeatureSource, open_checked
from ensgan.metrics.knn import make_backend
from ensgan.metrics.radii import TINY, measure_balls
from ensgan.types import Float64Array, Int64Array

FORMAT = 2
"""Raised when the meaning of a stored block or radius changes."""


@dataclass(frozen=True)
class Scoring:
    """What all tasks of one pool share.

    Attributes:
        k: neighbour that sets the radius.
        backend: name for :func:`make_backend`, resolved where the task runs.
        dim: dimensions of the features.
        centre: origin of the pool, float64 [dim].
        memory_bytes: working memory of one task.
        rounds: resamples to count beside the whole sets.
        classes: labels of the classes that are scored apart, ascending; () to score all together.
        share: part of the balls between members that is counted.
        store: folder that keeps finished work, on storage that every worker sees; or None.
    """

    k: int
    backend: str
    dim: int
    centre: Float64Array
    memory_bytes: int
    rounds: int = 0
    classes: tuple[int, ...] = ()
    share: float = 1.0
    store: Path | None = None


@dataclass(frozen=True)
class RadiiTask:
    """Check one set and measure its radii; ``labels`` where classes are scored apart."""

    index: int
    name: str
    source: FeatureSource
    scoring: Scoring
    labels: Int64Array | None = None

    @property
    def label(self) -> str:
        """What the task is about, for messages."""
        return f"measuring the radii of {self.name}"


@dataclass(frozen=True)
class Member:
    """One set with its radii.

    Attributes:
        index, name, source, labels: as in the task.
        radii: of its balls, or the file that keeps them: tasks that name files stay small.
        points: how many it has.
        deviation: see :class:`Balls`.
        digest: content key of the features (and labels); empty when no work is kept.
        note: what its user should know, a sentence or nothing.
    """

    index: int
    name: str
    source: FeatureSource
    radii: Balls | Path
    points: int
    deviation: float
    digest: str
    labels: Int64Array | None = None
    note: str = ""

    @property
    def balls(self) -> Balls:
        """Its radii; read anew at every use where a file keeps them.

        Raises:
            DataError: the file was deleted or damaged meanwhile.
        """
        if isinstance(self.radii, Balls):
            return self.radii
        return Balls.of_arrays(read_npz(self.radii, BALL_ARRAYS))

    def class_sizes(self, classes: Sequence[int]) -> list[int]:
        """Points of each class; all of them where classes are scored together."""
        if self.labels is None:
            return [self.points]
        return [int(np.count_nonzero(self.labels == label)) for label in classes]


def measure_radii(task: RadiiTask) -> Member:
    """Run one :class:`RadiiTask`, or read what an interrupted run found.

    Raises:
        InputError: see :func:`open_checked`; the message names the set.
    """
    scoring = task.scoring
    features = open_checked(task.source, task.name, scoring.k, scoring.dim)
    labels = () if task.labels is None else (task.labels,)
    if task.labels is not None:
        check_classes(task.labels, len(features), task.name, scoring)
    path, digest, balls = None, "", None
    notes: list[str] = []
    if scoring.store is not None:
        digest = sha256_arrays(features, *labels)
        key = content_key(FORMAT, digest, scoring.k, sha256_arrays(scoring.centre), scoring.classes)
        path = scoring.store / f"radii-{key}.npz"
        if path.exists():
            with suppress(DataError):  # a damaged file is measured again
                balls = Balls.of_arrays(read_npz(path, BALL_ARRAYS))
    if balls is None:
        balls = _measure(features, task.labels, scoring, notes.append)
        if path is not None:
            write_npz(path, **vars(balls))
    kept = balls if path is None else path
    n, deviation = len(balls), balls.deviation
    note = "; ".join(dict.fromkeys(notes))
    return Member(task.index, task.name, task.source, kept, n, deviation, digest, task.labels, note)


def _measure(
    features: FeatureArray,
    labels: Int64Array | None,
    scoring: Scoring,
    tell: Callable[[str], None],
) -> Balls:
    """Radii of a set, among the points of the same class where there are labels."""
    how = scoring.k, make_backend(scoring.backend), scoring.centre, scoring.memory_bytes, tell
    if labels is None:
        return measure_balls(features, *how)
    n = len(features)
    whole = Balls(np.zeros(n), np.zeros(n, np.int64), np.arange(n), 0.0)
    classes = list(Classes.of(labels, scoring.classes).members())
    parts = [measure_balls(features[index], *how) for index in classes]
    # One unit for all, the largest: beside an extreme class, squares in it may vanish, which the
    # bounds allow for, but not overflow.
    exponent = max(part.exponent for part in parts)
    for index, part in zip(classes, parts, strict=True):
        squared = np.ldexp(part.squared, 2 * (part.exponent - exponent))
        whole.squared[index] = np.where(part.squared > 0, np.maximum(squared, TINY), 0)
        whole.neighbour[index] = index[part.neighbour]
        whole.representative[index] = index[part.representative]
    farthest = max(part.deviation for part in parts)
    return replace(whole, deviation=farthest, exponent=exponent)


def check_classes(labels: Int64Array, points: int, name: str, scoring: Scoring) -> None:
    """Refuse labels that do not fit a set, and classes too small for a k-th neighbour.

    Raises:
        DataError: another number of labels than points, a class that the real set lacks, or a class
            of fewer than k+1 points.
    """
    if labels.shape != (points,):
        raise DataError(f"{name} has {points} points but labels of shape {list(labels.shape)}")
    strange = labels[~np.isin(labels, scoring.classes)]
    if len(strange):
        raise DataError(
            f"{name} has {len(strange)} points of class {strange[0]}, which the real set lacks: "
            "leave them out, or score all classes together"
        )
    counts = [int(np.count_nonzero(labels == label)) for label in scoring.classes]
    if min(counts) <= scoring.k:
        few = counts.index(min(counts))
        raise DataError(
            f"{name} has {counts[few]} points of class {scoring.classes[few]}; k = {scoring.k} "
            f"needs at least {scoring.k + 1} of every class: bring more, lower k, or score all "
            "classes together"
        )
