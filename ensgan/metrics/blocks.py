"""A pool's pairs cut into blocks: independent, pure, resumable, fit for any ``map``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from ensgan.errors import DataError
from ensgan.files import content_key, read_npz, write_npz
from ensgan.metrics.ball_counts import (
    BallCounts,
    Classes,
    HostCounts,
    PlacedSet,
    kept_points,
    sampled_balls,
)
from ensgan.metrics.device_pairs import DeviceCounts
from ensgan.metrics.device_points import CardMemory
from ensgan.metrics.features import FeatureArray, Frame, open_features
from ensgan.metrics.knn import Backend, full_precision, make_backend
from ensgan.metrics.radii_task import FORMAT, Member, Scoring
from ensgan.types import BoolArray, Int64Array, UInt8Array

_T = TypeVar("_T")
_R = TypeVar("_R")

_SMALL_PRODUCT = 1 << 30
"""Multiplications below which a product is not worth several threads."""


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
        scoring = self.scoring
        digests = [[member.digest for member in part] for part in (self.rows, self.columns)]
        # Names settle which points a resample keeps.
        names = [member.name for member in (*self.rows, *self.columns)]
        drawn = [scoring.rounds, *names] if scoring.rounds else []
        drawn += [f"balls {self.share:g}", *names] if self.share < 1 else []
        # The backend is left out: it does not change a count.
        return content_key(
            FORMAT, scoring.k, *digests, self.wanted.tolist(), scoring.classes, *drawn
        )

    @property
    def share(self) -> float:
        """Part of the balls that is counted; all of the real points'."""
        return 1.0 if self.rows[0].index == 0 else self.scoring.share

    @property
    def label(self) -> str:
        """What the task is about, for messages."""
        rows, columns = (", ".join(m.name for m in part) for part in (self.rows, self.columns))
        return f"scoring the block of {rows} against {columns}"

    @property
    def path(self) -> Path | None:
        """File of the finished block; None without a checkpoint folder."""
        store = self.scoring.store
        return None if store is None else store / f"block-{self.key}.npz"

    @property
    def indices(self) -> tuple[Int64Array, Int64Array]:
        """Indices of the sets, int64 [a], [b]."""
        rows, columns = ([member.index for member in part] for part in (self.rows, self.columns))
        return np.array(rows, np.int64), np.array(columns, np.int64)

    def finished(self) -> BlockScores | None:
        """The block as an earlier run kept it; its indices are of this pool."""
        if self.path is None or not self.path.exists():
            return None
        rows, columns = self.indices
        with suppress(DataError):  # a damaged file is no block: score it again
            needed = set(BlockScores.__dataclass_fields__) - {"squares", "note"}  # the newer ones
            arrays: dict[str, Any] = read_npz(self.path, tuple(needed))
            arrays.pop("note", None)
            if str(arrays.pop("key", self.key)) != self.key:  # another's; early ones have none
                return None
            # A pool that has grown numbers its sets otherwise than when the block was kept.
            return BlockScores(**(arrays | {"rows": rows, "columns": columns}))
        return None


@dataclass(frozen=True)
class BlockScores:
    """Counts of a block; the third axis is 0 for the balls of the row, 1 for those of the column.

    Attributes:
        rows, columns: indices of the sets, int64 [a], [b].
        wanted: bool [a,b], pairs that were scored; others are 0.
        pairs: int64 [a,b,2,classes], (ball, point) pairs; one entry where classes are scored
            together.
        reached: int64 [a,b,2,classes], balls that contain a point.
        covered: int64 [a,b,2], points inside some ball.
        masks: uint8 [2, b, ceil(N/8)] when the real set is the only row, else [2,0,0]: real points
            whose ball holds a point of the member, and those inside a ball of the member.
        resampled: int64 [a,b,2,2,rounds], pairs and balls reached of every resample.
        resampled_masks: uint8 [b, rounds, ceil(N/8)], the first of ``masks`` in every resample.
        squares: int64 [a,b,2,classes] where balls were drawn: sums of their squared numbers of
            points.
        note: what its user should know, a sentence or nothing.
    """

    rows: Int64Array
    columns: Int64Array
    wanted: BoolArray
    pairs: Int64Array
    reached: Int64Array
    covered: Int64Array
    masks: UInt8Array
    resampled: Int64Array
    resampled_masks: UInt8Array
    squares: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    note: str = ""

    @classmethod
    def empty(cls, task: BlockTask) -> BlockScores:
        """The block before anything is counted."""
        rounds, classes = task.scoring.rounds, max(1, len(task.scoring.classes))
        shape = (len(task.rows), len(task.columns), 2)
        of_real = [member.index for member in task.rows] == [0]
        masked, width = (shape[1], (task.rows[0].points + 7) // 8) if of_real else (0, 0)
        return cls(
            *task.indices,
            wanted=task.wanted,
            pairs=np.zeros((*shape, classes), np.int64),
            reached=np.zeros((*shape, classes), np.int64),
            covered=np.zeros(shape, np.int64),
            masks=np.zeros((2, masked, width), np.uint8),
            resampled=np.zeros((*shape, 2, rounds), np.int64),
            resampled_masks=np.zeros((masked, rounds, width), np.uint8),
            squares=np.zeros((*shape, classes) if task.share < 1 else 0, np.int64),
        )

    def enter(
        self,
        a: int,
        b: int,
        sets: tuple[PlacedSet, PlacedSet],
        both: tuple[BallCounts, BallCounts],
    ) -> None:
        """Write down a pair: the balls of the row, then those of the column."""
        for role, (balls, counts) in enumerate(zip(sets, both, strict=True)):
            self.pairs[a, b, role] = balls.sum_by_class(counts.held)
            self.reached[a, b, role] = balls.sum_by_class(counts.held > 0)
            if self.squares.size:
                self.squares[a, b, role] = balls.sum_by_class(counts.held**2)
            self.covered[a, b, role] = np.count_nonzero(counts.covered)
            if counts.rounds is not None:
                self.resampled[a, b, role] = counts.rounds.totals()
        if self.masks.size:
            self.masks[0, b] = np.packbits(both[0].held > 0)
            self.masks[1, b] = np.packbits(both[1].covered)
        if self.resampled_masks.size and both[0].rounds is not None:
            reached = np.ascontiguousarray(both[0].rounds.reached().T)
            self.resampled_masks[b] = np.packbits(reached, axis=1)


class BlockScorer:
    """Scores blocks of one pool; on a card, sets stay there from block to block.

    It is pickled without them: every process places its own.
    """

    def __init__(self) -> None:
        self._card: CardMemory | None = None

    def __reduce__(self) -> tuple[type[BlockScorer], tuple[()]]:
        return BlockScorer, ()

    def __call__(self, task: BlockTask) -> BlockScores:
        """Score the pairs of a block; reads nothing but the task and the sources named in it.

        Rows stay in memory, columns pass through one at a time. The finished block
        is written to the task's file, where a later call finds it, also after an interruption.

        Raises:
            DataError: a source no longer holds the points its radii were measured on.
        """
        backend = make_backend(task.scoring.backend)
        if backend.card is not None:
            card = self._card or CardMemory(backend.card, task.scoring.memory_bytes, lambda _: None)
            # Blocks come in the order of their rows: what stands before those is needed no more.
            first = task.rows[0].index
            card.placed = {key: each for key, each in card.placed.items() if key[0] >= first}
            self._card = card
        with full_precision():
            block = _score(task, backend, self._card)
        if task.path is not None:
            write_npz(task.path, **vars(block), key=np.array(task.key))
        return block


def _score(task: BlockTask, backend: Backend, card: CardMemory | None) -> BlockScores:
    scoring = task.scoring
    block = BlockScores.empty(task)

    notes: list[str] = []
    rows: dict[int, _Sides] = {}
    largest = max(member.points for member in (*task.rows, *task.columns))
    small = largest * largest * scoring.dim < _SMALL_PRODUCT
    # Columns outside, so that each is opened and placed once and the rows, which fit into memory
    # together, stay: a group of n sets costs 2n placings, not n².
    with _side_by_side(backend.threads if small else 1) as mapper:
        host = HostCounts(block_entries(scoring), mapper)
        counts: HostCounts | DeviceCounts = host
        if card is not None:
            card.tell = notes.append
            counts = DeviceCounts(task.frame, card, host)
        for b, member in enumerate(task.columns):
            chosen = np.flatnonzero(task.wanted[:, b]).tolist()
            if not chosen:
                continue
            column = _placed(member, task, backend)
            for a in chosen:
                if a not in rows:
                    rows[a] = _placed(task.rows[a], task, backend)
            counted = _counted(counts, [rows[a] for a in chosen], column, task.share)
            for a, both in zip(chosen, counted, strict=True):
                block.enter(a, b, (rows[a].balls, column.balls), both)
    return replace(block, note="; ".join(dict.fromkeys(notes)))


def _counted(
    counts: HostCounts | DeviceCounts, rows: Sequence[_Sides], column: _Sides, share: float
) -> Iterable[tuple[BallCounts, BallCounts]]:
    """Several rows against one column, the balls of both."""
    balls = [row.balls for row in rows]
    if share == 1:
        return counts.count(balls, column.balls)
    first = counts.count(balls, column.points)
    second = counts.count([row.points for row in rows], column.balls)
    return ((one[0], other[1]) for one, other in zip(first, second, strict=True))


class _Sides(NamedTuple):
    """A set as balls and as points; the same where all balls are counted."""

    balls: PlacedSet
    points: PlacedSet


def _placed(member: Member, task: BlockTask, backend: Backend) -> _Sides:
    scoring = task.scoring
    features = open_features(member.source, member.name)
    if features.shape != (member.points, scoring.dim):
        raise DataError(f"{member.name} changed while the pool was scored: score it again")
    kept = kept_points(member.name, len(features), scoring.rounds) if scoring.rounds else None
    classes = None if member.labels is None else Classes.of(member.labels, scoring.classes)
    whole = PlacedSet(
        features,
        member.balls,
        task.frame,
        backend,
        resident=stays_resident(features, scoring),
        kept=kept,
        classes=classes,
        key=(member.index, "whole"),
    )
    if task.share == 1:
        return _Sides(whole, whole)
    drawn = sampled_balls(member.name, len(features), classes, task.share)
    no_balls = replace(whole.balls, squared=np.zeros(len(features)))
    return _Sides(
        replace(whole, classes=drawn, key=(member.index, "drawn balls")),
        replace(whole, balls=no_balls, key=(member.index, "points")),
    )


def stays_resident(features: FeatureArray, scoring: Scoring) -> bool:
    """Whether a set is small enough to be placed once and kept while its block runs."""
    return 8 * features.size <= scoring.memory_bytes // 4


def block_entries(scoring: Scoring) -> int:
    """Distances to hold at a time: what a cache holds for narrow features, more for wide."""
    ideal = 1 << 20 if scoring.dim < 512 else 1 << 22
    return int(np.clip(scoring.memory_bytes // 64, 1, ideal))


@contextmanager
def _side_by_side(
    threads: int,
) -> Iterator[Callable[[Callable[[_T], _R], Iterable[_T]], Iterator[_R]]]:
    """A ``map`` that runs in threads whose products are single-threaded.

    Small products gain little from threads of their own, and lose much when another program keeps
    one of the cores busy; whole pairs side by side do neither.
    """
    if threads == 1:
        yield map
        return
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        # torch keeps the number for new threads beside that of each thread.
        torch.set_num_threads(before)
