"""Which points of one set lie in the balls of another, both ways, from one product."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ensgan.metrics.entries import Entries, Summary, above
from ensgan.metrics.exact import Balls, BoolArray, inside, relative_error
from ensgan.metrics.features import FeatureArray, Frame
from ensgan.metrics.knn import Backend, Operand, Precision, Side, ball_margin, pair_error
from ensgan.metrics.resampling import RoundCounts
from ensgan.types import Float64Array, Int64Array, UInt8Array


@dataclass(frozen=True)
class Hits:
    """Points of one set (m) inside the balls of another (n).

    Attributes:
        count: number of (ball, point) pairs with the point strictly inside.
        reached: bool [n], balls that contain a point.
        covered: bool [m], points inside some ball.
        rounds: the same on random parts of both sets, where both say which points are kept.
    """

    count: int
    reached: BoolArray
    covered: BoolArray
    rounds: RoundCounts | None = None

    def density(self, k: int) -> float:
        """Hits over k·m (Naeem et al. 2020, eq. 4); can exceed 1."""
        return self.count / (k * len(self.covered))

    @property
    def coverage(self) -> float:
        """Share of balls that contain a point (Naeem et al. 2020, eq. 5)."""
        return int(np.count_nonzero(self.reached)) / len(self.reached)

    @property
    def precision(self) -> float:
        """Share of points inside some ball (Kynkäänniemi et al. 2019)."""
        return int(np.count_nonzero(self.covered)) / len(self.covered)


class PlacedSet:
    """A set with its balls in a frame, ready to be rows or columns of blocks.

    Args:
        features: [n,D], checked.
        balls: its radii.
        frame: the frame of the pool.
        backend: computes the blocks.
        resident: keep the placed points in memory (else they are placed block by block).
        kept: points that each resample keeps, 0 or 1, [n, rounds]; None for no resamples.
    """

    def __init__(
        self,
        features: FeatureArray,
        balls: Balls,
        frame: Frame,
        backend: Backend,
        *,
        resident: bool = True,
        kept: UInt8Array | None = None,
    ) -> None:
        self.kept = kept
        self.features, self.balls, self.frame = features, balls, frame
        self.backend, self.resident = backend, resident
        self._whole: dict[Side, Operand] = {}
        self._limits: Float64Array | None = None

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def radii(self) -> Float64Array:
        """Radii in the frame, [n]."""
        scaled: Float64Array = np.ldexp(np.sqrt(self.balls.squared), -self.frame.exponent)
        return scaled

    def operand(self, start: int, stop: int, side: Side, precision: Precision) -> Operand:
        """Points ``start`` to ``stop`` as rows or columns."""
        if not self.resident or precision == "double":
            placed = self.frame.place(self.features[start:stop])
            return self.backend.operand(placed, side, precision)
        if side not in self._whole:
            placed = self.frame.place(self.features)
            self._whole[side] = self.backend.operand(placed, side, precision)
        return self._whole[side].part(slice(start, stop))

    def limits(self, start: int, operand: Operand) -> Float64Array:
        """Values for the balls from ``start``: no U up to them is inside, [n]."""
        stop = start + len(operand)
        if self.resident and operand.precision == "single":
            if self._limits is None:
                self._limits = self._bounds(0, next(iter(self._whole.values())))
            return self._limits[start:stop]
        return self._bounds(start, operand)

    def _bounds(self, start: int, operand: Operand) -> Float64Array:
        radii = self.radii[start : start + len(operand)]
        # Nothing lies strictly inside a ball of radius zero.
        empty = self.balls.squared[start : start + len(operand)] == 0
        if self.backend.fast:
            return np.where(empty, np.inf, -0.5 * radii**2)
        margin = ball_margin(operand.norms, radii, self.features.shape[1], operand.precision)
        return np.where(empty, np.inf, -0.5 * (radii**2 + margin))


def pair_hits(rows: PlacedSet, columns: PlacedSet, block_entries: int) -> tuple[Hits, Hits]:
    """Points of ``columns`` in the balls of ``rows``, and the other way round.

    Args:
        rows, columns: two sets in the same frame.
        block_entries: distances held at a time.
    """
    tally = _Tally(rows, columns)
    width = min(len(columns), max(1024, block_entries // 1024))
    height = max(1, block_entries // width)
    for i in range(0, len(rows), height):
        for j in range(0, len(columns), width):
            tally.add(_Tile(i, min(i + height, len(rows)), j, min(j + width, len(columns))))
    return tally.result()


@dataclass(frozen=True)
class _Tile:
    top: int
    bottom: int
    left: int
    right: int


class _Tally:
    """Sums over tiles; index 0: the balls of the rows, index 1: those of the columns."""

    def __init__(self, rows: PlacedSet, columns: PlacedSet) -> None:
        self._sets = (rows, columns)
        self._error = relative_error(
            rows.features.shape[1],
            rows.balls.deviation + columns.balls.deviation,
            rows.balls.lattice,
            columns.balls.lattice,
        )
        self._counts = [0, 0]
        sizes = (len(rows), len(columns))
        self._reached = [np.zeros(n, np.bool_) for n in sizes]
        self._covered = [np.zeros(n, np.bool_) for n in reversed(sizes)]
        self._rounds: list[RoundCounts | None] = [None, None]
        if rows.kept is not None and columns.kept is not None:
            self._rounds = [
                RoundCounts(rows.kept, columns.kept),
                RoundCounts(columns.kept, rows.kept),
            ]

    def result(self) -> tuple[Hits, Hits]:
        parts = zip(self._counts, self._reached, self._covered, self._rounds, strict=True)
        first, second = (Hits(*each) for each in parts)
        return first, second

    def add(self, tile: _Tile, precision: Precision = "single") -> None:
        """Count the hits of one tile, in double precision where single leaves much in doubt."""
        rows, columns = self._sets
        row_operand = rows.operand(tile.top, tile.bottom, "row", precision)
        column_operand = columns.operand(tile.left, tile.right, "column", precision)
        block = rows.backend.block(row_operand, column_operand)
        row_limits = rows.limits(tile.top, row_operand)
        column_limits = columns.limits(tile.left, column_operand)
        if rows.backend.fast:
            self._believe(tile, block, row_limits, column_limits)
            return
        found = [above(block, row_limits[:, None])]
        # A set without balls (all limits infinite) costs no pass.
        some = bool(np.isfinite(column_limits).any())
        found.append(above(block, column_limits[None, :]) if some else Entries.none())
        many = block.numel() // 50 + 10_000
        doubtful = []
        for role, entries in enumerate(found):
            error = pair_error(
                row_operand.norms[entries.rows],
                column_operand.norms[entries.columns],
                rows.features.shape[1],
                precision,
            )
            index = entries.columns + tile.left if role else entries.rows + tile.top
            excess = entries.values + 0.5 * self._sets[role].radii[index] ** 2
            doubtful.append(np.abs(excess) <= error)
            keep = excess >= -error
            found[role], doubtful[role] = entries.select(keep), doubtful[role][keep]
        if precision == "single" and sum(map(np.count_nonzero, doubtful)) > many:
            self.add(tile, "double")
            return
        by_row, by_column = found
        top, left = tile.top, tile.left
        self._take(0, by_row.rows + top, by_row.columns + left, doubtful[0])
        self._take(1, by_column.columns + left, by_column.rows + top, doubtful[1])

    def _believe(
        self,
        tile: _Tile,
        block: torch.Tensor,
        row_limits: Float64Array,
        column_limits: Float64Array,
    ) -> None:
        """Count what the product says, right or wrong."""
        first = Summary.above(block, row_limits[:, None])
        second = Summary.above(block, column_limits[None, :])
        top, left = slice(tile.top, tile.bottom), slice(tile.left, tile.right)
        self._counts[0] += first.count
        self._reached[0][top] |= first.rows
        self._covered[0][left] |= first.columns
        self._counts[1] += second.count
        self._reached[1][left] |= second.columns
        self._covered[1][top] |= second.rows

    def _take(self, role: int, centre: Int64Array, point: Int64Array, doubtful: BoolArray) -> None:
        if doubtful.any():
            hit = ~doubtful
            hit[doubtful] = self._decide(role, centre[doubtful], point[doubtful])
            centre, point = centre[hit], point[hit]
        self._counts[role] += len(centre)
        self._reached[role][centre] = True
        self._covered[role][point] = True
        rounds = self._rounds[role]
        if rounds is not None:
            rounds.add(centre, point)

    def _decide(self, role: int, centre: Int64Array, point: Int64Array) -> BoolArray:
        """Exact answers; pairs of identical points are decided once."""
        balls, points = self._sets[role], self._sets[1 - role]
        i = balls.balls.representative[centre]
        j = points.balls.representative[point]
        _, first, inverse = np.unique(i * len(points) + j, return_index=True, return_inverse=True)
        i, j = i[first], j[first]
        answer = inside(balls.features, balls.balls, i, points.features, j, self._error)
        return answer[inverse]
