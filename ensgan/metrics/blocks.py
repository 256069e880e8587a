"""A pool's pairs cut into blocks: independent, pure, resumable, fit for any ``map``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ensgan.errors import DataError
from ensgan.files import content_key, read_npz, sha256_arrays, write_npz
from ensgan.metrics.exact import Balls, BoolArray
from ensgan.metrics.features import (
    FeatureArray,
    FeatureSource,
    Frame,
    check_points,
    open_features,
    shifted,
)
from ensgan.metrics.hits import Hits, PlacedSet, pair_hits
from ensgan.metrics.knn import make_backend, side_by_side
from ensgan.metrics.radii import measure_balls
from ensgan.types import Float64Array, Int64Array, UInt8Array

FORMAT = 1
"""Raised when the meaning of a stored block changes."""

_SMALL_PRODUCT = 1 << 30
"""Multiplications below which a product is not worth several threads."""


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
    """

    k: int
    backend: str
    dim: int
    centre: Float64Array
    shift: int
    memory_bytes: int

    def open(self, source: FeatureSource, name: str) -> FeatureArray:
        """The features of one set, as the pool sees them."""
        return shifted(open_features(source, name), self.shift)


@dataclass(frozen=True)
class SurveyTask:
    """Check one set and measure its radii; ``digest``: also hash its content."""

    index: int
    name: str
    source: FeatureSource
    scoring: Scoring
    digest: bool


@dataclass(frozen=True)
class Survey:
    """What is known of a set before pairs are scored; ``digest`` is empty unless asked for."""

    index: int
    balls: Balls
    digest: str


def survey(task: SurveyTask) -> Survey:
    """Run one :class:`SurveyTask`.

    Raises:
        InputError: see :func:`check_points`; the message names the set.
    """
    scoring = task.scoring
    features = scoring.open(task.source, task.name)
    check_points(features, task.name, scoring.k, scoring.dim)
    balls = measure_balls(
        features,
        scoring.k,
        make_backend(scoring.backend),
        centre=scoring.centre,
        memory_bytes=scoring.memory_bytes,
    )
    return Survey(task.index, balls, sha256_arrays(features) if task.digest else "")


@dataclass(frozen=True)
class Member:
    """One set as a block needs it."""

    index: int
    name: str
    source: FeatureSource
    balls: Balls
    digest: str


@dataclass(frozen=True)
class BlockTask:
    """Pairs between some rows and some columns of a pool (index 0 is the real set).

    Attributes:
        rows, columns: the sets.
        wanted: bool [rows,columns], pairs to score.
        frame: of the whole pool.
        scoring: shared settings.
    """

    rows: tuple[Member, ...]
    columns: tuple[Member, ...]
    wanted: BoolArray
    frame: Frame
    scoring: Scoring

    @property
    def key(self) -> str:
        """Content key of the result; equal for equal features, pairs and k."""
        return content_key(
            FORMAT,
            self.scoring.k,
            [member.digest for member in self.rows],
            [member.digest for member in self.columns],
            self.wanted.tolist(),
        )


@dataclass(frozen=True)
class BlockScores:
    """Counts of a block; the last axis is 0 for the balls of the row, 1 for those of the column.

    Attributes:
        rows, columns: indices of the sets, int64 [a], [b].
        wanted: bool [a,b], pairs that were scored; others are 0.
        hits: int64 [a,b,2], (ball, point) pairs.
        reached: int64 [a,b,2], balls that contain a point.
        covered: int64 [a,b,2], points inside some ball.
        masks: uint8 [b, ceil(N/8)], real points reached, when the real set is the only row;
            else [0,0].
    """

    rows: Int64Array
    columns: Int64Array
    wanted: BoolArray
    hits: Int64Array
    reached: Int64Array
    covered: Int64Array
    masks: UInt8Array

    def save(self, path: Path) -> None:
        """Write the block atomically."""
        write_npz(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> BlockScores:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: truncated or not a block.
        """
        names = tuple(cls.__dataclass_fields__)
        arrays = read_npz(path, names)
        return cls(**{name: arrays[name] for name in names})


def score_block(task: BlockTask) -> BlockScores:
    """Score the pairs of a block; reads nothing but the task and the sources named in it.

    Rows stay in memory, columns pass through one at a time.

    Raises:
        DataError: a source no longer holds the points its radii were measured on.
    """
    scoring = task.scoring
    backend = make_backend(scoring.backend)
    shape = (len(task.rows), len(task.columns), 2)
    hits, reached, covered = (np.zeros(shape, np.int64) for _ in range(3))
    of_real = [member.index for member in task.rows] == [0]
    width = (len(task.rows[0].balls) + 7) // 8 if of_real else 0
    masks = np.zeros((len(task.columns) if of_real else 0, width), np.uint8)
    entries = block_entries(scoring)
    rows: dict[int, PlacedSet] = {}

    def placed(member: Member) -> PlacedSet:
        features = scoring.open(member.source, member.name)
        if features.shape != (len(member.balls), scoring.dim):
            raise DataError(f"{member.name} changed while the pool was scored: score it again")
        resident = stays_resident(features, scoring)
        return PlacedSet(features, member.balls, task.frame, backend, resident=resident)

    largest = max(len(member.balls) for member in (*task.rows, *task.columns))
    small = largest * largest * scoring.dim < _SMALL_PRODUCT
    with side_by_side(backend.threads if small else 1) as mapper:
        for b, member in enumerate(task.columns):
            chosen = np.flatnonzero(task.wanted[:, b]).tolist()
            if not chosen:
                continue
            column = placed(member)
            for a in chosen:
                if a not in rows:
                    rows[a] = placed(task.rows[a])
            pairs = [(rows[a], column) for a in chosen]
            for a, both in zip(chosen, mapper(partial(_pair, entries), pairs), strict=True):
                hits[a, b] = [each.count for each in both]
                reached[a, b] = [np.count_nonzero(each.reached) for each in both]
                covered[a, b] = [np.count_nonzero(each.covered) for each in both]
                if of_real:
                    masks[b] = np.packbits(both[0].reached)
    return BlockScores(
        np.array([member.index for member in task.rows]),
        np.array([member.index for member in task.columns]),
        task.wanted,
        hits,
        reached,
        covered,
        masks,
    )


def _pair(entries: int, pair: tuple[PlacedSet, PlacedSet]) -> tuple[Hits, Hits]:
    return pair_hits(*pair, entries)


def stays_resident(features: FeatureArray, scoring: Scoring) -> bool:
    """Whether a set is small enough to be placed once and kept while its block runs."""
    return 8 * features.size <= scoring.memory_bytes // 4


def block_entries(scoring: Scoring) -> int:
    """Distances to hold at a time: what a cache holds for narrow features, more for wide."""
    ideal = 1 << 20 if scoring.dim < 512 else 1 << 22
    return int(np.clip(scoring.memory_bytes // 64, 1, ideal))


def group_sets(sizes: Sequence[int], dim: int, memory_bytes: int) -> list[tuple[int, ...]]:
    """Consecutive members (indices from 1) whose placed points fit in half the memory together.

    At most 16 a group, so that progress shows and a cluster has enough blocks.
    """
    groups: list[tuple[int, ...]] = []
    current: list[int] = []
    used = 0
    for index, size in enumerate(sizes, start=1):
        needed = 8 * size * dim  # float32, and the features themselves when they are loaded
        if current and (len(current) == 16 or used + needed > memory_bytes // 2):
            groups.append(tuple(current))
            current, used = [], 0
        current.append(index)
        used += needed
    return [*groups, tuple(current)] if current else groups
