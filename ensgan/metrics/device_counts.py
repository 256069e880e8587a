"""Counts of pairs that stay on a card: placed, multiplied, compared and measured again there.

A product of float16 decides most memberships (:mod:`ensgan.metrics.device_points` has its bound).
The rest is measured in float64 on the card; what that leaves, ties, is decided in whole numbers on
the host. A group of pairs, several sets against one, waits for the card four times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

import ensgan.metrics.device_points as cards
from ensgan.metrics.ball_counts import BallCounts, HostCounts, PlacedSet, decide
from ensgan.metrics.features import Frame
from ensgan.metrics.knn import Backend
from ensgan.types import BoolArray, Int64Array

_WIDTH = 8192  # columns of a product, at most
_DOUBTS = 10_000  # with a fiftieth of all pairs: more are left to float64 altogether


def counts_on(
    backend: Backend,
    frame: Frame,
    memory_bytes: int,
    tell: Callable[[str], None],
    host: HostCounts,
    memory: cards.CardMemory | None = None,
) -> HostCounts | DeviceCounts:
    """Where pairs are counted: on the backend's card, or by products of the host.

    Args:
        memory: of the card, with sets that earlier counts in this frame have placed there.
    """
    if backend.card is None:
        return host
    memory = memory or cards.CardMemory(backend.card, memory_bytes, tell)
    return DeviceCounts(frame, memory, host)


@dataclass
class DeviceCounts:
    """Counts between sets that stay on a card, the rows, and others that pass by.

    Attributes:
        frame: of the pool.
        memory: to take there.
        host: counts what the card cannot.
    """

    frame: Frame
    memory: cards.CardMemory
    host: HostCounts

    def count(
        self, rows: Sequence[PlacedSet], column: PlacedSet
    ) -> Iterable[tuple[BallCounts, BallCounts]]:
        """See :class:`HostCounts`."""
        # Squares of extreme features have a unit of their own, which only the host knows.
        ordinary = not any(each.balls.exponent for each in (*rows, column))
        counted = self.memory.run(lambda: self._count(rows, column)) if ordinary else None
        return counted or self.host.count(rows, column)

    def _count(
        self, rows: Sequence[PlacedSet], column: PlacedSet
    ) -> list[tuple[BallCounts, BallCounts]]:
        entries = self.memory.entries
        counts = [(BallCounts.none(row, column), BallCounts.none(column, row)) for row in rows]
        for label in range(len(column.starts) - 1):
            for (right,) in cards.cut([column], label, min(_WIDTH, entries)):
                columns = self._placed(right, stays=False)
                for left in cards.cut(rows, label, max(1, entries // len(right))):
                    placed = cards.Placed.joined(
                        [self._placed(piece, stays=True) for piece in left]
                    )
                    Tile(self, left, placed, right, columns).count(counts)
        return counts

    def _placed(self, piece: cards.Piece, *, stays: bool) -> cards.Placed:
        """Placed once, where its set is small enough to stay; rows surely come again."""
        key = (*(piece.of.key or (id(piece.of), "")), piece.places.start, piece.places.stop)
        placed = self.memory.placed.get(key)
        if placed is None:
            placed = cards.Placed.of(piece, self.frame, self.memory.device)
            if piece.of.resident:
                self.memory.keep(key, placed, needed=stays)
        return placed


class Tile:
    """Pieces of several sets, side by side, against a piece of one."""

    def __init__(
        self,
        of: DeviceCounts,
        left: list[cards.Piece],
        rows: cards.Placed,
        right: cards.Piece,
        columns: cards.Placed,
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
        n, m, sets = len(self._rows), len(self._columns), len(self._left)
        place = self._owner[i] * m + j
        sums = [
            torch.zeros(size, dtype=torch.int32, device=self._device).index_add_(0, index, hit)
            for hit in hits.int()
            for size, index in ((n, i), (sets * m, place))
        ]
        packed = cards.to_host(torch.cat(sums))  # waits: the counts
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
            self._add_rounds(counts, cards.to_host(torch.stack((i, j, *hits.long()))))

    def _decided(self, *, exactly: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, bool]:
        """Rows, columns and bool [2, pairs] whether inside the balls of the row, of the column.

        The last value is false where a product of float16 leaves too much in doubt to go on.
        """
        rows, columns, dim = self._rows, self._columns, self._dim
        values = cards.block(rows, columns, self._of.frame, exactly=exactly)
        # The limits of a product of float16 hold for a better one.
        hot = values > rows.limits(dim)[:, None]
        if self._right.of.balls.squared.any():
            hot |= values > columns.limits(dim)
        where = hot.view(-1).nonzero().squeeze(1)  # waits: how many
        i, j = where // len(columns), where % len(columns)
        value = values.view(-1)[where].double()
        del values, hot
        bound = cards.error_of(dim, rows.terms(i), columns.terms(j), exactly=exactly)
        excess = torch.stack((value + rows.half_square[i], value + columns.half_square[j]))
        hits, doubt = excess > bound, excess.abs() <= bound
        left = doubt.any(0).nonzero().squeeze(1)  # waits: how many
        if not exactly and len(left) > len(rows) * len(columns) // 50 + _DOUBTS:
            return i, j, hits, False
        if len(left):
            answers = self._measured(i[left], j[left], doubt[:, left])
            hits[:, left] = torch.where(doubt[:, left], answers, hits[:, left])
        return i, j, hits, True

    def _measured(self, i: torch.Tensor, j: torch.Tensor, doubt: torch.Tensor) -> torch.Tensor:
        """Whether pairs are inside, by float64 and, where that ties, by whole numbers: [2,n]."""
        rows, columns, dim = self._rows, self._columns, self._dim
        squared = cards.measured(rows.raw, columns.raw, i, j, self._of.memory.bytes)
        radius = torch.stack((rows.squared[i], columns.squared[j]))
        answers = squared < radius
        close = (squared - radius).abs() <= 2 * (dim + 4) * 2.0**-53 * (squared + radius)
        close |= (squared < 2.0**-900) | (radius < 2.0**-900)  # where squares lose digits
        close &= doubt & (radius > 0)
        answered = cards.to_host(
            torch.stack((*close.long(), *answers.long(), i, j))
        )  # waits: which tie
        if not answered[:2].any():
            return answers
        exact = answered[2:4] > 0
        for role in (0, 1):
            which = np.flatnonzero(answered[role])
            exact[role, which] = self._exact(role, *answered[4:, which])
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
        self, counts: Sequence[tuple[BallCounts, BallCounts]], pairs: Int64Array
    ) -> None:
        for number, which, rows, columns in self._by_set(pairs[0], pairs[1]):
            both = counts[self._left[number].number]
            for role, (centre, point) in enumerate(((rows, columns), (columns, rows))):
                rounds, hit = both[role].rounds, pairs[2 + role, which] > 0
                if rounds is not None:
                    rounds.add(centre[hit], point[hit])
