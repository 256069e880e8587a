"""The first look at every set of a pool: is it sound, how far do its neighbours lie."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ensgan.errors import DataError
from ensgan.files import content_key, read_npz, sha256_arrays, write_npz
from ensgan.metrics.ball_files import ARRAYS, ball_arrays, balls_from
from ensgan.metrics.choice import make_backend
from ensgan.metrics.exact import Balls
from ensgan.metrics.features import (
    FeatureArray,
    FeatureSource,
    check_points,
    open_features,
    shifted,
)
from ensgan.metrics.radii import measure_balls
from ensgan.types import Float64Array

FORMAT = 1
"""Raised when the meaning of a stored block or radius changes."""


@dataclass(frozen=True)
class Scoring:
    """What all tasks of one pool share.

    Attributes:
        k: neighbour that sets the radius.
        backend: name for :func:`make_backend`, resolved where the task runs.
        dim: dimensions of the features.
        centre: origin of the pool, float64 [dim].
        shift: power of two taken out of all features first.
        memory_bytes: working memory of one task.
        fast: let the product alone decide which points are inside; radii stay exact.
        rounds: resamples to count beside the whole sets.
        store: folder that keeps finished work, on storage that every worker sees; or None.
    """

    k: int
    backend: str
    dim: int
    centre: Float64Array
    shift: int
    memory_bytes: int
    fast: bool = False
    rounds: int = 0
    store: Path | None = None

    def open(self, source: FeatureSource, name: str) -> FeatureArray:
        """The features of one set, as the pool sees them."""
        return shifted(open_features(source, name), self.shift)


@dataclass(frozen=True)
class SurveyTask:
    """Check one set and measure its radii."""

    index: int
    name: str
    source: FeatureSource
    scoring: Scoring

    @property
    def label(self) -> str:
        """What the task is about, for messages."""
        return f"measuring the radii of {self.name}"


@dataclass(frozen=True)
class Survey:
    """What is known of a set before pairs are scored; ``digest`` is empty when nothing is kept."""

    index: int
    balls: Balls
    digest: str


def survey(task: SurveyTask) -> Survey:
    """Run one :class:`SurveyTask`, or read what an interrupted run found.

    Raises:
        InputError: see :func:`check_points`; the message names the set.
    """
    scoring = task.scoring
    features = scoring.open(task.source, task.name)
    check_points(features, task.name, scoring.k, scoring.dim)
    if scoring.store is None:
        return Survey(task.index, _measure(features, scoring), "")
    digest = sha256_arrays(features)
    key = content_key(FORMAT, digest, scoring.k, sha256_arrays(scoring.centre), scoring.shift)
    path = scoring.store / f"radii-{key}.npz"
    if path.exists():
        with suppress(DataError):  # a damaged file is measured again
            return Survey(task.index, balls_from(read_npz(path, ARRAYS)), digest)
    balls = _measure(features, scoring)
    write_npz(path, **ball_arrays(balls))
    return Survey(task.index, balls, digest)


def _measure(features: FeatureArray, scoring: Scoring) -> Balls:
    return measure_balls(
        features,
        scoring.k,
        make_backend(scoring.backend),
        centre=scoring.centre,
        memory_bytes=scoring.memory_bytes,
    )
