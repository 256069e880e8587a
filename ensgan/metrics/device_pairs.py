"""Pairs that stay on a card: placed, multiplied, compared and measured again there.

Which points lie in which balls: a product of float16 decides most (its bound stands in
:mod:`ensgan.metrics.device_points`). The rest is measured in float64 on the card; what that leaves,
ties, is decided in whole numbers on the host. A group of pairs, several sets against one, waits for
the card four times. Which points are nearest: candidates by products of float16, in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

import ensgan.metrics.device_points as cards
from ensgan.metrics.ball_counts import BallCounts, HostCounts, PlacedSet, decide
from ensgan.metrics.features import FeatureArray, Frame
from ensgan.metrics.knn import Entries
from ensgan.types import BoolArray, Int64Array

_WIDTH = 8192  # columns of a product, at most
_DOUBTS = 10_000  # with a fiftieth of all pairs: more are left to float64 altogether


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


def find_near(
    points: FeatureArray,
    references: FeatureArray,
    k: int,
    frame: Frame,
    memory: cards.CardMemory,
    itself: Int64Array | None = None,
) -> Entries:
    """For each point every reference that may be among its k nearest, with ‖x − y‖² as value.

    Args:
        points: [n,D] checked features.
        references: [m,D] checked features.
        k: how many, at most m (m − 1 with ``itself``).
        frame: holds both.
        memory: to take.
        itself: int64 [n], which reference is the point itself and does not count.
    """
    search = _Search(points, references, k, frame, memory, itself)
    near, crowded = search.run(np.arange(len(points)), exactly=False)
    parts = [near]
    # Float16 cannot tell the neighbours of these apart (tight clusters far from each other). A
    # point may be as near to all: only as many together as there is memory for.
    step = max(1, memory.entries // len(references))
    for start in range(0, len(crowded), step):
        parts.append(search.run(crowded[start : start + step], exactly=True)[0])
    return Entries.joined(parts)


@dataclass
class _Search:
    """The arguments of :func:`find_near`, and how many rows and columns are multiplied at once."""

    _points: FeatureArray
    _references: FeatureArray
    _k: int
    _frame: Frame
    _memory: cards.CardMemory
    _itself: Int64Array | None

    def __post_init__(self) -> None:
        memory, references = self._memory, self._references
        dim = references.shape[1]
        # A third of the memory for a run of columns, which is placed once.
        self._width = int(np.clip(memory.bytes // (72 * dim), 1, len(references)))
        height = min(memory.entries // (2 * self._width), memory.bytes // (72 * dim))
        self._height = max(1, height)

    def run(self, which: Int64Array, *, exactly: bool) -> tuple[Entries, Int64Array]:
        """Candidates of some points, and which points have too many of them to measure."""
        device, k = self._memory.device, self._k
        least = torch.full((len(which), k), -torch.inf, dtype=torch.float64, device=device)
        # Measuring more than this would take longer than multiplying in float64.
        most = len(self._references) if exactly else 64 + 4 * k
        crowded = torch.zeros(len(which), dtype=torch.bool, device=device)
        parts = []
        for left in range(0, len(self._references), self._width):
            part = self._references[left : left + self._width]
            columns = cards.Points.at(part, self._frame, device)
            for top in range(0, len(which), self._height):
                tile = slice(top, top + self._height)
                rows, low, high = self._tile(which[tile], columns, left, exactly=exactly)
                best = torch.cat((least[tile], low.topk(min(k, len(columns)), dim=1).values), dim=1)
                least[tile] = best.topk(k, dim=1).values
                # What may be among the k nearest; not the points themselves.
                hot = (high >= least[tile, -1:]) & (high > -torch.inf)
                crowded[tile] |= hot.sum(dim=1) > most
                hot &= ~crowded[tile, None]
                at = hot.view(-1).nonzero().squeeze(1)  # waits: how many
                i, j = at // len(columns), at % len(columns)
                squared = cards.measured(rows.raw, columns.raw, i, j, self._memory.bytes)
                parts.append(torch.stack((i + top, j + left, squared.view(torch.int64))))
        row, column, bits = cards.to_host(torch.cat(parts, dim=1))  # waits
        given_up = cards.to_host(crowded)  # waits
        keep = ~given_up[row]
        near = Entries(which[row[keep]], column[keep], bits[keep].view(np.float64))
        return near, which[np.flatnonzero(given_up)]

    def _tile(
        self, which: Int64Array, columns: cards.Points, left: int, *, exactly: bool
    ) -> tuple[cards.Points, torch.Tensor, torch.Tensor]:
        """Points as rows with bounds on U, float64 [rows,columns] each."""
        dim, everything, device = self._references.shape[1], slice(None), self._memory.device
        itself = None if self._itself is None else self._itself[which]
        if itself is not None and len(columns) == len(self._references):
            rows = columns.some(torch.from_numpy(itself).to(device))  # uploaded once
        else:
            rows = cards.Points.at(self._points[which], self._frame, device)
        values = cards.block(rows, columns, self._frame, exactly=exactly).double()
        if itself is not None:
            here = np.flatnonzero((itself >= left) & (itself < left + len(columns)))
            place = torch.from_numpy(here * len(columns) + itself[here] - left).to(device)
            values.view(-1).index_fill_(0, place, -torch.inf)
        by_row = tuple(term[:, None] for term in rows.terms(everything))
        error = cards.error_of(dim, by_row, columns.terms(everything), exactly=exactly)
        return rows, values - error, values.add_(error)
