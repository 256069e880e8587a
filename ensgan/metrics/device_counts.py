"""Counts of pairs that stay on a card: placed, multiplied, compared and measured again there.

A product of float16 decides most memberships (:mod:`ensgan.metrics.device_points` has its bound).
The rest is measured in float64 on the card; what that leaves, ties, is decided in whole numbers on
the host. A group of pairs, several sets against one, waits for the card four times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ensgan.metrics.ball_counts import BLOCK_ENTRIES, BallCounts, PlacedSet, count_pairs, decide
from ensgan.metrics.device_points import (
    Piece,
    Placed,
    cut,
    in_frame,
    pair_bound,
    product,
    terms,
    to_host,
)
from ensgan.metrics.features import Frame
from ensgan.metrics.knn import Backend, relative_bound
from ensgan.types import BoolArray, Int64Array

_WIDTH = 8192  # columns of a product, at most
_ENTRY_BYTES = 24  # of an entry of a product, with what comes of it
_LEAST_ENTRIES = 1 << 16
_DOUBTS = 10_000  # with a fiftieth of all pairs: more are left to float64 altogether


@dataclass
class DeviceCounts:
    """Counts between sets that stay on a device, the rows, and others that pass by.

    Attributes:
        frame: of the pool.
        device: where.
        memory_bytes: to take there.
        tell: called with one sentence when the device has not as much.
    """

    frame: Frame
    device: str
    memory_bytes: int
    tell: Callable[[str], None]
    _kept: dict[tuple[int, int, int], Placed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._entries = max(1, self.memory_bytes // (2 * _ENTRY_BYTES))

    def count(
        self, rows: Sequence[PlacedSet], column: PlacedSet
    ) -> list[tuple[BallCounts, BallCounts]]:
        """Points of ``column`` in the balls of each row, and the other way round."""
        # Squares of extreme features have a unit of their own, which only the host knows.
        ordinary = not any(each.balls.exponent for each in (*rows, column))
        while self._entries and ordinary:
            try:
                return self._count(rows, column)
            except torch.cuda.OutOfMemoryError:
                self._kept.clear()
                torch.cuda.empty_cache()
                smaller = min(self._entries, _WIDTH**2) // 4
                self._entries = smaller if smaller >= _LEAST_ENTRIES else 0
                how = "smaller groups of pairs" if self._entries else "going on on the CPU"
                self.tell(f"the GPU ran out of memory while scoring: {how}")
        cpu = Backend("cpu")
        on_cpu = [replace(each, backend=cpu) for each in (*rows, column)]
        return [count_pairs(row, on_cpu[-1], BLOCK_ENTRIES) for row in on_cpu[:-1]]

    def _count(
        self, rows: Sequence[PlacedSet], column: PlacedSet
    ) -> list[tuple[BallCounts, BallCounts]]:
        counts = [(BallCounts.none(row, column), BallCounts.none(column, row)) for row in rows]
        for label in range(len(column.starts) - 1):
            for (right,) in cut([column], label, min(_WIDTH, self._entries)):
                columns = Placed.of(right, self.frame, self.device)
                for left in cut(rows, label, max(1, self._entries // len(right))):
                    placed = Placed.joined([self._row(piece) for piece in left])
                    Tile(self, left, placed, right, columns).count(counts)
        return counts

    def _row(self, piece: Piece) -> Placed:
        """Placed once, where its set is small enough to stay."""
        key = id(piece.of), piece.places.start, piece.places.stop
        placed = self._kept.get(key) or Placed.of(piece, self.frame, self.device)
        if piece.of.resident:
            self._kept[key] = placed
        return placed


class Tile:
    """Pieces of several sets, side by side, against a piece of one."""

    def __init__(
        self,
        of: DeviceCounts,
        left: list[Piece],
        rows: Placed,
        right: Piece,
        columns: Placed,
    ) -> None:
        self._of, self._left, self._right = of, left, right
        self._rows, self._columns = rows, columns
        self._dim = rows.raw.shape[1]
        self._starts = np.cumsum([0, *map(len, left)])
        self._device = rows.raw.device
        numbers = torch.arange(len(left), device=self._device)
        # Which piece a row is of: the lengths are known here, so that nothing waits.
        sizes = torch.from_numpy(np.diff(self._starts)).to(self._device)
        self._owner = torch.repeat_interleave(numbers, sizes, output_size=int(self._starts[-1]))

    def count(self, counts: Sequence[tuple[BallCounts, BallCounts]]) -> None:
        """Add what the tile holds to the counts of the rows' sets."""
        i, j, hits, sure = self._decided(exactly=False)
        if not sure:  # as between tight clusters: float64 for all is cheaper
            i, j, hits, _ = self._decided(exactly=True)
        n, m, sets = len(self._rows.norm), len(self._columns.norm), len(self._left)
        place = self._owner[i] * m + j
        sums = [
            torch.zeros(size, dtype=torch.int32, device=self._device).index_add_(0, index, hit)
            for hit in hits.int()
            for size, index in ((n, i), (sets * m, place))
        ]
        packed = to_host(torch.cat(sums))  # waits: the counts
        by_role = packed.reshape(2, n + sets * m)
        pairs = [part for role in by_role for part in (role[:n], role[n:])]
        for number, piece in enumerate(self._left):
            own = slice(self._starts[number], self._starts[number + 1])
            across = slice(number * m, (number + 1) * m)
            rows, columns = piece.points(), self._right.points()
            of_row, of_column = counts[piece.number]
            of_row.held[rows] += pairs[0][own]
            of_row.covered[columns] |= pairs[1][across] > 0
            of_column.held[columns] += pairs[3][across]
            of_column.covered[rows] |= pairs[2][own] > 0
        if any(both[0].rounds is not None for both in counts):
            self._add_rounds(counts, to_host(torch.stack((i, j, *hits.long()))))

    def _decided(self, *, exactly: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, bool]:
        """Rows, columns and bool [2, pairs] whether inside the balls of the row, of the column.

        The last value is false where a product of float16 leaves too much in doubt to go on.
        """
        rows, columns, dim = self._rows, self._columns, self._dim
        sides = (rows, columns)
        if exactly:
            block = product(*(in_frame(side.raw, self._of.frame) for side in sides))
        else:
            block = product(rows.half, columns.half)
        halves = [(0.5 * side.norm**2).to(block.dtype) for side in sides]
        block.sub_(halves[0][:, None]).sub_(halves[1])
        # The limits of a product of float16 hold for a better one.
        hot = block > rows.limits(dim)[:, None]
        if self._right.of.balls.squared.any():
            hot |= block > columns.limits(dim)
        where = hot.view(-1).nonzero().squeeze(1)  # waits: how many
        i, j = where // block.shape[1], where % block.shape[1]
        value = block.view(-1)[where].double()
        del block, hot
        if exactly:
            bound = relative_bound(dim, "double") * (rows.norm[i] + columns.norm[j]) ** 2
            bound += dim * 2.0**-960
        else:
            bound = pair_bound(dim, *terms(rows, i), *terms(columns, j))
        excess = torch.stack((value + rows.half_square[i], value + columns.half_square[j]))
        hits, doubt = excess > bound, excess.abs() <= bound
        left = doubt.any(0).nonzero().squeeze(1)  # waits: how many
        if not exactly and len(left) > rows.norm.numel() * columns.norm.numel() // 50 + _DOUBTS:
            return i, j, hits, False
        if len(left):
            answers = self._measured(i[left], j[left], doubt[:, left])
            hits[:, left] = torch.where(doubt[:, left], answers, hits[:, left])
        return i, j, hits, True

    def _measured(self, i: torch.Tensor, j: torch.Tensor, doubt: torch.Tensor) -> torch.Tensor:
        """Whether pairs are inside, by float64 and, where that ties, by whole numbers: [2,n]."""
        rows, columns, dim = self._rows, self._columns, self._dim
        step = max(1, self._of.memory_bytes // (64 * dim))
        squared = torch.cat(
            [
                (rows.raw[i[at]].double() - columns.raw[j[at]].double()).square_().sum(1)
                for at in (slice(start, start + step) for start in range(0, len(i), step))
            ]
        )
        radius = torch.stack((rows.squared[i], columns.squared[j]))
        answers = squared < radius
        close = (squared - radius).abs() <= 2 * (dim + 4) * 2.0**-53 * (squared + radius)
        close |= (squared < 2.0**-900) | (radius < 2.0**-900)  # where squares lose digits
        close &= doubt & (radius > 0)
        found = to_host(torch.stack((*close.long(), *answers.long(), i, j)))  # waits: which tie
        if not found[:2].any():
            return answers
        exact = found[2:4] > 0
        for role in (0, 1):
            which = np.flatnonzero(found[role])
            exact[role, which] = self._exact(role, *found[4:, which])
        return torch.from_numpy(exact).to(self._device)

    def _exact(self, role: int, i: Int64Array, j: Int64Array) -> BoolArray:
        """Whether the pairs of rows and columns are inside, decided on the host."""
        result = np.zeros(len(i), np.bool_)
        for number, which, rows, columns in self._by_set(i, j):
            sides = (self._left[number].of, rows), (self._right.of, columns)
            (balls, centre), (points, point) = sides[::-1] if role else sides
            result[which] = decide(balls, points, centre, point)
        return result

    def _by_set(
        self, i: Int64Array, j: Int64Array
    ) -> Iterator[tuple[int, Int64Array, Int64Array, Int64Array]]:
        """Pairs by the piece of their row: its number, which pairs, and the points of both."""
        owner = np.searchsorted(self._starts, i, side="right") - 1
        for number in np.unique(owner).tolist():
            which = np.flatnonzero(owner == number)
            rows = self._left[number].points(i[which] - self._starts[number])
            yield number, which, np.asarray(rows), np.asarray(self._right.points(j[which]))

    def _add_rounds(
        self, counts: Sequence[tuple[BallCounts, BallCounts]], found: Int64Array
    ) -> None:
        for number, which, rows, columns in self._by_set(found[0], found[1]):
            both = counts[self._left[number].number]
            for role, (centre, point) in enumerate(((rows, columns), (columns, rows))):
                rounds, hit = both[role].rounds, found[2 + role, which] > 0
                if rounds is not None:
                    rounds.add(centre[hit], point[hit])
