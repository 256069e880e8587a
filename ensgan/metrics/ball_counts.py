"""Which points of one set lie in the balls of another, both ways, from one product."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np

from ensgan.metrics.exact_distance import Balls, inside
from ensgan.metrics.features import FeatureArray, Frame
from ensgan.metrics.knn import Backend, Entries, Operand, Precision, Side, ball_margin, pair_error
from ensgan.metrics.resampling import RoundCounts
from ensgan.types import BoolArray, Float64Array, Int64Array, UInt8Array

_Places = TypeVar("_Places", slice, Int64Array)

BLOCK_ENTRIES = 1 << 22
"""Distances held at a time unless a memory budget says less."""


@dataclass(frozen=True)
class Classes:
    """Points of a set by class: pairs are then counted within each class only.

    Attributes:
        order: int64 [n], indices of the points, class after class.
        starts: int64 [classes+1], where each class begins in ``order``.
    """

    order: Int64Array
    starts: Int64Array

    @classmethod
    def of(cls, labels: Int64Array, classes: Sequence[int]) -> Classes:
        """Of labels [n], each one of ``classes`` (ascending)."""
        order = np.argsort(labels, kind="stable")
        starts = np.searchsorted(labels[order], np.array(classes))
        return cls(order, np.append(starts, len(labels)))

    def members(self) -> Iterator[Int64Array]:
        """Indices of the points of each class."""
        for start, stop in pairwise(self.starts):
            yield self.order[start:stop]


@dataclass(frozen=True)
class BallCounts:
    """Points of one set (m) inside the balls of another (n).

    Attributes:
        held: int64 [n], points strictly inside each ball (of its class, where there are classes).
        covered: bool [m], points inside some ball.
        rounds: the same counts per resample; None without resamples.
    """

    held: Int64Array
    covered: BoolArray
    rounds: RoundCounts | None = None

    @classmethod
    def none(cls, balls: PlacedSet, points: PlacedSet) -> BallCounts:
        """All counts 0."""
        rounds = None
        if balls.kept is not None and points.kept is not None:
            rounds = RoundCounts(balls.kept, points.kept)
        return cls(np.zeros(len(balls), np.int64), np.zeros(len(points), np.bool_), rounds)


@dataclass(eq=False)
class PlacedSet:
    """A set with its balls in a frame, ready to be rows or columns of blocks.

    Attributes:
        features: [n,D], checked.
        balls: its radii.
        frame: the frame of the pool.
        backend: computes the blocks.
        resident: keep the placed points in memory (else they are placed block by block).
        kept: points that each resample keeps, 0 or 1, [n, rounds]; None for no resamples.
        classes: which points are of which class; None to count all pairs.
        key: index of the set and which of its balls are there, for who keeps it placed.
    """

    features: FeatureArray
    balls: Balls
    frame: Frame
    backend: Backend
    resident: bool = True
    kept: UInt8Array | None = None
    classes: Classes | None = None
    key: tuple[int, str] | None = None
    _whole: dict[Side, Operand] = field(init=False, default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def starts(self) -> list[int]:
        """Where each class begins among the places, and where the last one ends."""
        return [0, len(self)] if self.classes is None else self.classes.starts.tolist()

    def sum_by_class(self, values: Int64Array | BoolArray) -> Int64Array:
        """Sums of whole numbers of the points, [n], in each class, [classes]."""
        ordered = values if self.classes is None else values[self.classes.order]
        running = np.concatenate(([0], np.cumsum(ordered)))
        return np.asarray(np.diff(running[self.starts]), np.int64)

    def points(self, places: _Places) -> _Places | Int64Array:
        """Indices of the points at some places (the points in the order of their classes)."""
        return places if self.classes is None else self.classes.order[places]

    @cached_property
    def radii(self) -> Float64Array:
        """Radii in the frame, [n]."""
        return self.balls.radii(self.frame.exponent)

    def operand(self, places: slice, side: Side, precision: Precision) -> Operand:
        """The points at some places, ready to be rows or columns of a block."""
        if not self.resident or precision == "double":
            part = self.features[self.points(places)]
            return self.backend.operand(self.frame, part, side, precision)
        if side not in self._whole:
            part = self.features[self.points(slice(None))]
            self._whole[side] = self.backend.operand(self.frame, part, side, precision)
        return self._whole[side].part(places)

    def limits(self, places: slice, operand: Operand) -> Float64Array:
        """Values for the balls at some places, placed: no U up to them is inside, [n]."""
        part = self.points(places)
        radii = self.radii[part]
        margin = ball_margin(operand.norms, radii, self.features.shape[1], operand.precision)
        # Nothing lies strictly inside a ball of radius zero.
        return np.where(self.balls.squared[part] == 0, np.inf, -0.5 * (radii**2 + margin))


def count_pairs(
    rows: PlacedSet, columns: PlacedSet, block_entries: int
) -> tuple[BallCounts, BallCounts]:
    """Points of ``columns`` in the balls of ``rows``, and the other way round.

    Args:
        rows, columns: two sets in the same frame, both with classes or both without.
        block_entries: distances held at a time.
    """
    tally = _Tally(rows, columns)
    # Sorted by class, pairs of one class are a block on the diagonal: the rest is never multiplied.
    spans = zip(pairwise(rows.starts), pairwise(columns.starts), strict=True)
    for (top, bottom), (left, right) in spans:
        width = min(right - left, max(1024, block_entries // 1024))
        height = max(1, block_entries // max(width, 1))
        for i in range(top, bottom, height):
            for j in range(left, right, width):
                down, across = slice(i, min(i + height, bottom)), slice(j, min(j + width, right))
                tally.add(down, across)
    return tally.counts


@dataclass(frozen=True)
class HostCounts:
    """Pairs of several sets by products of the host.

    Attributes:
        block_entries: distances held at a time.
        mapper: ``map``, or one that counts several pairs side by side.
    """

    block_entries: int = BLOCK_ENTRIES
    mapper: Callable[..., Iterable[tuple[BallCounts, BallCounts]]] = map

    def count(
        self, rows: Sequence[PlacedSet], column: PlacedSet
    ) -> Iterable[tuple[BallCounts, BallCounts]]:
        """For each of ``rows``: points of ``column`` in its balls, and the other way round."""
        return self.mapper(lambda row: count_pairs(row, column, self.block_entries), rows)


class _Tally:
    """Sums over tiles; index 0: the balls of the rows, index 1: those of the columns."""

    def __init__(self, rows: PlacedSet, columns: PlacedSet) -> None:
        self._sets = (rows, columns)
        self.counts = BallCounts.none(rows, columns), BallCounts.none(columns, rows)

    def add(self, down: slice, across: slice, precision: Precision = "single") -> None:
        """Count the pairs of one tile, in double precision where single leaves much in doubt."""
        rows, columns = self._sets
        row_operand = rows.operand(down, "row", precision)
        column_operand = columns.operand(across, "column", precision)
        block = rows.backend.block(row_operand, column_operand)
        # One comparison of the whole block per direction, with a limit that serves every pair of a
        # ball; the sharper bound of each pair is then taken for the few entries that remain.
        by_row = Entries.above(block, rows.limits(down, row_operand)[:, None])
        by_column = Entries.above(block, columns.limits(across, column_operand)[None])
        decisions = []
        for role, entries in enumerate((by_row, by_column)):
            first = rows.points(entries.rows + down.start)
            second = columns.points(entries.columns + across.start)
            centre, point = (second, first) if role else (first, second)
            norms = row_operand.norms[entries.rows], column_operand.norms[entries.columns]
            error = pair_error(*norms, rows.features.shape[1], precision)
            excess = entries.values + 0.5 * self._sets[role].radii[centre] ** 2
            # Beyond the error on either side the product has decided; U = −½r² is a tie.
            keep = excess >= -error
            decisions.append((centre[keep], point[keep], np.abs(excess[keep]) <= error[keep]))
        # A recheck costs D operations per pair as the product does, but far slower ones: with more
        # than a few percent in doubt, multiplying the tile again in float64 is cheaper.
        many = block.numel() // 50 + 10_000
        if precision == "single" and sum(np.count_nonzero(part[2]) for part in decisions) > many:
            self.add(down, across, "double")
            return
        for role, decision in enumerate(decisions):
            self._take(role, *decision)

    def _take(self, role: int, centre: Int64Array, point: Int64Array, doubtful: BoolArray) -> None:
        if doubtful.any():
            hit = ~doubtful
            sides = self._sets[role], self._sets[1 - role]
            hit[doubtful] = decide(*sides, centre[doubtful], point[doubtful])
            centre, point = centre[hit], point[hit]
        counts = self.counts[role]
        np.add.at(counts.held, centre, 1)
        counts.covered[point] = True
        if counts.rounds is not None:
            counts.rounds.add(centre, point)


def decide(balls: PlacedSet, points: PlacedSet, centre: Int64Array, point: Int64Array) -> BoolArray:
    """Whether points lie inside balls, exactly; pairs of identical points are decided once."""
    i = balls.balls.representative[centre]
    j = points.balls.representative[point]
    # A collapsed generator repeats one pair thousands of times.
    _, first, inverse = np.unique(i * len(points) + j, return_index=True, return_inverse=True)
    i, j = i[first], j[first]
    return inside(balls.features, balls.balls, i, points.features, j)[inverse]
