"""A pool's pairs cut into blocks: independent, pure, resumable, fit for any ``map``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ensgan.errors import DataError
from ensgan.files import content_key, read_npz, write_npz
from ensgan.metrics.choice import make_backend
from ensgan.metrics.exact import Balls, BoolArray
from ensgan.metrics.features import FeatureArray, FeatureSource, Frame
from ensgan.metrics.hits import Hits, PlacedSet, pair_hits
from ensgan.metrics.knn import Backend, product_precision
from ensgan.metrics.resampling import kept_points
from ensgan.metrics.survey import FORMAT, Scoring
from ensgan.metrics.threads import side_by_side
from ensgan.types import Int64Array, UInt8Array

_SMALL_PRODUCT = 1 << 30
"""Multiplications below which a product is not worth several threads."""


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
            *(["fast"] if self.scoring.fast else []),
            *([self.scoring.rounds, *self.names] if self.scoring.rounds else []),
        )

    @property
    def label(self) -> str:
        """What the task is about, for messages."""
        rows, columns = (", ".join(m.name for m in part) for part in (self.rows, self.columns))
        return f"scoring the block of {rows} against {columns}"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all sets: they settle which points a resample keeps."""
        return tuple(member.name for member in (*self.rows, *self.columns))

    @property
    def path(self) -> Path | None:
        """Where the block is kept, if finished blocks are."""
        store = self.scoring.store
        return None if store is None else store / f"block-{self.key}.npz"

    @property
    def indices(self) -> tuple[Int64Array, Int64Array]:
        """Indices of the sets, int64 [a], [b]."""
        rows, columns = (
            np.array([member.index for member in members], np.int64)
            for members in (self.rows, self.columns)
        )
        return rows, columns

    def finished(self) -> BlockScores | None:
        """The block as an earlier run kept it; its indices are of this pool."""
        if self.path is None or not self.path.exists():
            return None
        rows, columns = self.indices
        with suppress(DataError):  # a damaged file is no block: score it again
            return replace(BlockScores.load(self.path), rows=rows, columns=columns)
        return None


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
        resampled: int64 [a,b,2,2,rounds], hits and balls reached of every resample.
        resampled_masks: uint8 [b, rounds, ceil(N/8)], like ``masks``.
    """

    rows: Int64Array
    columns: Int64Array
    wanted: BoolArray
    hits: Int64Array
    reached: Int64Array
    covered: Int64Array
    masks: UInt8Array
    resampled: Int64Array
    resampled_masks: UInt8Array

    @classmethod
    def empty(cls, task: BlockTask) -> BlockScores:
        """The block before anything is counted."""
        scoring = task.scoring
        shape = (len(task.rows), len(task.columns), 2)
        of_real = [member.index for member in task.rows] == [0]
        width = (len(task.rows[0].balls) + 7) // 8 if of_real else 0
        masked = len(task.columns) if of_real else 0
        return cls(
            *task.indices,
            wanted=task.wanted,
            hits=np.zeros(shape, np.int64),
            reached=np.zeros(shape, np.int64),
            covered=np.zeros(shape, np.int64),
            masks=np.zeros((masked, width), np.uint8),
            resampled=np.zeros((*shape, 2, scoring.rounds), np.int64),
            resampled_masks=np.zeros((masked, scoring.rounds, width), np.uint8),
        )

    def enter(self, a: int, b: int, both: tuple[Hits, Hits]) -> None:
        """Write down a pair: the balls of the row, then those of the column."""
        for role, each in enumerate(both):
            self.hits[a, b, role] = each.count
            self.reached[a, b, role] = np.count_nonzero(each.reached)
            self.covered[a, b, role] = np.count_nonzero(each.covered)
            if each.rounds is not None:
                self.resampled[a, b, role] = each.rounds.totals()
        if self.masks.size:
            self.masks[b] = np.packbits(both[0].reached)
        if self.resampled_masks.size and both[0].rounds is not None:
            reached = np.ascontiguousarray(both[0].rounds.reached().T)
            self.resampled_masks[b] = np.packbits(reached, axis=1)

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

    Rows stay in memory, columns pass through one at a time. The block is kept where its task says,
    so that whoever asks for it next, after an interruption too, finds it.

    Raises:
        DataError: a source no longer holds the points its radii were measured on.
    """
    backend = make_backend(task.scoring.backend, fast=task.scoring.fast)
    with product_precision(tf32=backend.fast and backend.device == "cuda"):
        block = _score(task, backend)
    if task.path is not None:
        block.save(task.path)
    return block


def _score(task: BlockTask, backend: Backend) -> BlockScores:
    scoring = task.scoring
    block = BlockScores.empty(task)
    entries = block_entries(scoring)
    rows: dict[int, PlacedSet] = {}
    largest = max(len(member.balls) for member in (*task.rows, *task.columns))
    small = largest * largest * scoring.dim < _SMALL_PRODUCT
    with side_by_side(backend.threads if small else 1) as mapper:
        for b, member in enumerate(task.columns):
            chosen = np.flatnonzero(task.wanted[:, b]).tolist()
            if not chosen:
                continue
            column = _placed(member, task, backend)
            for a in chosen:
                if a not in rows:
                    rows[a] = _placed(task.rows[a], task, backend)
            pairs = [(rows[a], column) for a in chosen]
            for a, both in zip(chosen, mapper(partial(_pair, entries), pairs), strict=True):
                block.enter(a, b, both)
    return block


def _placed(member: Member, task: BlockTask, backend: Backend) -> PlacedSet:
    scoring = task.scoring
    features = scoring.open(member.source, member.name)
    if features.shape != (len(member.balls), scoring.dim):
        raise DataError(f"{member.name} changed while the pool was scored: score it again")
    kept = kept_points(member.name, len(features), scoring.rounds) if scoring.rounds else None
    return PlacedSet(
        features,
        member.balls,
        task.frame,
        backend,
        resident=stays_resident(features, scoring),
        kept=kept,
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
