"""Which points of one set lie in the balls of another, both ways, from one product.

Random parts of both, for resamples and estimates, depend on a set's name and size alone, so that
all pairs agree on them, on any worker and in a pool that grows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np

from ensgan.metrics.exact_distance import Balls, inside
from ensgan.metrics.features import FeatureArray, Frame
from ensgan.metrics.knn import Backend, Entries, Operand, Precision, Side, ball_margin, pair_error
from ensgan.types import BoolArray, Float64Array, Int64Array, UInt8Array
from ensgan.types.resamples import SHARE

_Places = TypeVar("_Places", slice, Int64Array)

BLOCK_ENTRIES = 1 << 22
"""Distances held at a time unless a memory budget says less."""
_GATHER_BYTES = 1 << 22  # flags of hits looked at together
_LANES = 255  # flags that a byte can sum
_LEAST = 30
"""Balls of a class that are counted at least: their spread is measured, too."""


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


def sampled_balls(name: str, points: int, classes: Classes | None, share: float) -> Classes:
    """The balls of a set that are counted: a random share of each class."""
    whole = classes or Classes(np.arange(points), np.array([0, points]))
    random = np.random.default_rng((zlib.crc32(name.encode()), points, 1))
    parts = [
        np.sort(random.choice(members, counted(len(members), share), replace=False))
        for members in whole.members()
    ]
    starts = np.cumsum([0, *map(len, parts)])
    return Classes(np.concatenate(parts), starts)


def counted(points: int, share: float) -> int:
    """How many of the balls round so many points are counted."""
    return min(points, max(_LEAST, round(share * points)))


def kept_points(name: str, points: int, rounds: int) -> UInt8Array:
    """Which points of the set ``name`` each round keeps: 0 or 1, [points, rounds]."""
    random = np.random.default_rng((zlib.crc32(name.encode()), points))
    flags = np.zeros((points, rounds), np.uint8)
    flags[: kept_count(points)] = 1
    return random.permuted(flags, axis=0)


def kept_count(points: int) -> int:
    """Number of points that a round keeps, out of ``points``."""
    return max(1, int(SHARE * points))


class RoundCounts:
    """Hits of one set's points in another's balls, in every round.

    Args:
        balls, points: what :func:`kept_points` says of the two sets.
    """

    def __init__(self, balls: UInt8Array, points: UInt8Array) -> None:
        self._rounds = balls.shape[1]
        self._balls, self._points = (_padded(flags) for flags in (balls, points))
        self._bits = np.packbits(self._points, axis=1).view(np.uint64)
        self._found = np.zeros((len(balls), self._bits.shape[1]), np.uint64)
        self._hits = np.zeros(self._balls.shape[1], np.int64)

    def add(self, centre: Int64Array, point: Int64Array) -> None:
        """Take in (ball, point) pairs with the point inside."""
        order = np.argsort(centre, kind="stable")
        centre, point = centre[order], point[order]
        step = _GATHER_BYTES // self._balls.shape[1]
        for start in range(0, len(centre), step):
            part = slice(start, start + step)
            self._hits += _column_sums(self._balls[centre[part]] & self._points[point[part]])
            first = np.flatnonzero(np.diff(centre[part], prepend=-1))
            reached = np.bitwise_or.reduceat(self._bits[point[part]], first, axis=0)
            self._found[centre[part][first]] |= reached

    def reached(self) -> UInt8Array:
        """Balls kept that hold a point kept: 0 or 1, [balls, rounds]."""
        inside = np.unpackbits(self._found.view(np.uint8), axis=1)
        return (inside & self._balls)[:, : self._rounds]

    def totals(self) -> Int64Array:
        """Hits, and balls reached, of every round: int64 [2, rounds]."""
        reached = self.reached().sum(axis=0, dtype=np.int64)
        return np.stack((self._hits[: self._rounds], reached))


def _padded(flags: UInt8Array) -> UInt8Array:
    """With zero columns up to a multiple of 64, so that rows are whole words."""
    wide = np.zeros((len(flags), -(-flags.shape[1] // 64) * 64), np.uint8)
    wide[:, : flags.shape[1]] = flags
    return wide


def _column_sums(flags: UInt8Array) -> Int64Array:
    """Column sums of 0/1 bytes [n, 8·w]; eight columns are added as one word."""
    words = flags.view(np.uint64)
    starts = np.arange(0, len(words), _LANES)
    lanes = np.add.reduceat(words, starts, axis=0).view(np.uint8)
    sums: Int64Array = lanes.sum(axis=0, dtype=np.int64)
    return sums


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
