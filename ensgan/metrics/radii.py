"""The radius of every point: the distance to its k-th nearest other point, exactly.

Columns pass by once: each point keeps the k largest values of U seen so far, and with them the
few entries that may still be its k-th neighbour. No matrix of distances of all pairs is held, and
where the set does not fit into memory its rows are placed once per run of columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from ensgan.files import sha256_arrays
from ensgan.metrics.device_pairs import find_near
from ensgan.metrics.device_points import CardMemory
from ensgan.metrics.exact_distance import Balls, nearest_of, squared_distances, too_close
from ensgan.metrics.features import FeatureArray, Frame, deviations, robust_centre
from ensgan.metrics.knn import Backend, Entries, Operand, Precision, ball_margin, pair_error
from ensgan.types import BoolArray, Float64Array, Int64Array

TINY = 5e-324
"""A squared radius lost to underflow: not that of the empty ball of identical points."""
_ORDINARY = 400  # up to 2^±400, squares neither overflow nor lose digits that matter
_ROWS = 1024


def measure_balls(
    features: FeatureArray,
    k: int,
    backend: Backend,
    centre: Float64Array | None = None,
    memory_bytes: int = 1 << 30,
    tell: Callable[[str], None] = warnings.warn,
) -> Balls:
    """Radii of a set of checked features [n,D], n > k.

    The set is centred on itself, so that a tight set far from all others keeps its digits.

    Args:
        features: finite float16/32/64.
        k: which neighbour sets the radius.
        backend: computes the blocks; with a card, the neighbours are found there.
        centre: origin about which ``deviation`` is measured (default: the set's own).
        memory_bytes: bound on the working memory.
        tell: called with one sentence where a card runs out of memory.
    """
    middle = robust_centre(features)
    spread, farthest = deviations(features, middle, middle if centre is None else centre)
    frame = Frame.spanning(middle, spread)
    same = representatives(features)
    exponent = frame.exponent if abs(frame.exponent) > _ORDINARY else 0
    squared = np.zeros(len(features))
    neighbour = _k_copies(same, k)
    todo = np.flatnonzero(neighbour < 0)
    if len(todo):
        on_card = None
        if backend.card is not None and not exponent:
            memory = CardMemory(backend.card, memory_bytes, tell)
            points = features[todo]
            on_card = memory.run(lambda: find_near(points, features, k, frame, memory, todo))
        if on_card is None:
            search = _Search(features, frame, same, k, backend, exponent, memory_bytes)
            neighbour[todo], squared[todo] = search.kth_neighbours(todo)
        else:
            rank = np.full(len(todo), k - 1)
            neighbour[todo], squared[todo] = kth_of(features, todo, on_card, rank)
    squared[todo] = np.maximum(squared[todo], TINY)
    return Balls(squared, neighbour, same, farthest, exponent)


def measure_points(features: FeatureArray, centre: Float64Array) -> Balls:
    """The set as points only: every ball is empty, nothing is multiplied."""
    n = len(features)
    (farthest,) = deviations(features, centre)
    return Balls(np.zeros(n), np.zeros(n, np.int64), representatives(features), farthest)


def representatives(features: FeatureArray) -> Int64Array:
    """For every point the index of the first identical point (its own if it is the first), [n]."""
    result = np.arange(len(features))
    few = max(1, features.shape[1] // 16)
    # A few coordinates tell most points apart; only the others are read in full.
    _, inverse, counts = np.unique(
        _row_keys(features[:, ::few]), return_inverse=True, return_counts=True
    )
    first: dict[str, int] = {}
    for index in np.flatnonzero(counts[inverse] > 1).tolist():
        # Adding zero turns −0 into +0, as the keys of rows do.
        result[index] = first.setdefault(sha256_arrays(features[index] + 0), index)
    return result


def _row_keys(rows: FeatureArray) -> npt.NDArray[np.uint64]:
    """A 64-bit key of every row: equal rows have equal keys."""
    odd = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], dtype=np.uint64)
    # Adding zero turns −0 into +0; products and sums wrap modulo 2^64.
    bits = (np.asarray(rows, np.float64) + 0.0).view(np.uint64)
    mixed = (bits ^ (bits >> np.uint64(29))) * (odd | np.uint64(1))
    return np.asarray(mixed.sum(axis=1, dtype=np.uint64))


def _k_copies(same: Int64Array, k: int) -> Int64Array:
    """Index of the k-th other identical point, −1 where there are fewer than k."""
    result = np.full(len(same), -1)
    order = np.argsort(same, kind="stable")
    starts = np.flatnonzero(np.diff(same[order], prepend=-1))
    for start, stop in zip(starts, np.append(starts[1:], len(same)), strict=True):
        if stop - start > k:
            group = order[start:stop]
            result[group] = group[k]
            result[group[k]] = group[0]
    return result


class _Seen:
    """The k largest U of some points so far, while runs of columns pass by.

    Attributes:
        crowded: bool [points], too many columns are nearly as near: single precision will not do.
    """

    def __init__(self, points: Int64Array, k: int, dim: int, precision: Precision) -> None:
        self._points, self._dim, self._precision = points, dim, precision
        dtype = torch.float32 if precision == "single" else torch.float64
        self._best = torch.full((len(points), k), -torch.inf, dtype=dtype)
        self._limit = np.full(len(points), -np.inf)  # what lies further down is not among the k
        # Rechecking more columns than this would take longer than multiplying in float64.
        self._most = 64 + 4 * k if precision == "single" else np.iinfo(np.int64).max
        self.crowded = np.zeros(len(points), np.bool_)

    def take(self, block: torch.Tensor, rows: slice, norms: Float64Array, start: int) -> Entries:
        """The entries of a block that may be among the k nearest, with the indices of points.

        Args:
            block: U of ``points[rows]`` and the columns from ``start``; points are hidden in it
                from themselves.
            norms: float64 [rows], of the points.
        """
        places = self._points[rows] - start
        here = np.flatnonzero((places >= 0) & (places < block.shape[1]))
        block[torch.from_numpy(here), torch.from_numpy(places[here])] = -torch.inf
        best = _largest_of(block, self._best[rows])
        self._best[rows] = best
        floor = best[:, -1].numpy().astype(np.float64)
        # At least k entries reach the floor. The margin is one of squared distances: for their
        # halves U it is twice what is needed, which leaves room for the floor's own error.
        radii = np.sqrt(np.maximum(-2 * floor, 0))
        limit = floor - 2 * ball_margin(norms, radii, self._dim, self._precision)
        self._limit[rows] = np.where(self.crowded[rows], np.inf, limit)
        return Entries.above(block, self._limit[rows][:, None]).moved(rows.start, start)

    def still_near(self, near: Entries) -> Entries:
        """Entries that have not fallen out meanwhile (limits only rise); none of crowded rows."""
        near = near.select(near.values > self._limit[near.rows])
        self.crowded |= np.bincount(near.rows, minlength=len(self._points)) > self._most
        self._limit[self.crowded] = np.inf
        return near.select(~self.crowded[near.rows])


def _largest_of(block: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
    """k values per row, each reached by an entry of its own, seldom less than the k largest.

    Args:
        block: [rows,columns].
        best: [rows,k], the result for the columns before these; −∞ where there were none.
    """
    rows, columns = block.shape
    k = best.shape[1]
    # The maxima of strided groups of columns stand for all entries: taken along memory, they are
    # far cheaper than a top-k of whole rows, and different groups have different entries.
    groups = max(1, min(16, columns // (16 * k)))
    width = columns // groups
    maxima = block[:, : groups * width].view(rows, groups, width).amax(dim=1)
    candidates = torch.cat((best, maxima, block[:, groups * width :]), dim=1)
    return candidates.topk(k, dim=1).values


class _Search:
    """k-th neighbours of points among all points of the set."""

    def __init__(
        self,
        features: FeatureArray,
        frame: Frame,
        same: Int64Array,
        k: int,
        backend: Backend,
        exponent: int,
        memory_bytes: int,
    ) -> None:
        self._features, self._frame, self._same = features, frame, same
        self._k, self._backend, self._exponent = k, backend, exponent
        n, dim = features.shape
        # A third of the memory for a run of columns (twice that in double precision), much less
        # for the rows against it: every run of columns costs a pass over the rows.
        width = int(np.clip(memory_bytes // (12 * dim), 1, n))
        height = min(memory_bytes // (10 * width), memory_bytes // (96 * dim))
        self._height = int(np.clip(height, 1, _ROWS))
        # Whole runs of rows in a run of columns, so that they can be taken from there.
        self._width = width if width == n else max(1, width // self._height) * self._height
        self._double_rows = int(np.clip(memory_bytes // (32 * n), 1, _ROWS))

    def kth_neighbours(self, points: Int64Array) -> tuple[Int64Array, Float64Array]:
        """Index of the k-th nearest other point of each of ``points``, and ‖·‖² to it."""
        neighbour = np.empty(len(points), np.int64)
        squared = np.empty(len(points))
        near, error, crowded = self._candidates(points, "single")
        clear = np.flatnonzero(~crowded)
        if len(clear):
            near = Entries(np.searchsorted(clear, near.rows), near.columns, near.values)
            neighbour[clear], squared[clear] = self._choose(points[clear], near, error)
        # Float32 cannot tell the neighbours of these apart (tight clusters far from each other).
        dense = np.flatnonzero(crowded)
        for start in range(0, len(dense), self._double_rows):
            part = dense[start : start + self._double_rows]
            near, error, _ = self._candidates(points[part], "double")
            neighbour[part], squared[part] = self._choose(points[part], near, error)
        return neighbour, squared

    def _candidates(
        self, points: Int64Array, precision: Precision
    ) -> tuple[Entries, Float64Array, BoolArray]:
        """Entries that hold the k largest U of each point, with bounds on their errors.

        Returns:
            the entries by row (an index into ``points``), their errors [h], and bool [points]:
            rows that were given up because too much of them is in doubt (single precision only).
        """
        n, dim = self._features.shape
        norms = np.empty(n)
        seen = _Seen(points, self._k, dim, precision)
        kept = Entries.none()
        for start in range(0, n, self._width):
            part = self._features[start : start + self._width]
            column = self._backend.operand(self._frame, part, "column", precision)
            norms[start : start + len(column)] = column.norms
            entries = [
                seen.take(self._backend.block(operand, column), rows, operand.norms, start)
                for rows, operand in self._rows(points, column, start)
            ]
            kept = seen.still_near(Entries.joined([kept, *entries]))
        kept = kept.select(np.argsort(kept.rows, kind="stable"))
        error = pair_error(norms[points[kept.rows]], norms[kept.columns], dim, precision)
        return kept, error, seen.crowded

    def _rows(
        self, points: Int64Array, column: Operand, first: int
    ) -> Iterator[tuple[slice, Operand]]:
        """``points`` as rows, run by run; those that are columns just now are not placed again."""
        for start in range(0, len(points), self._height):
            rows = slice(start, min(start + self._height, len(points)))
            part = points[rows]
            # Placing costs a tenth of a product of wide features.
            if first <= part[0] and part[-1] < first + len(column):
                yield rows, self._backend.as_rows(column.part(part - first))
            else:
                features = self._features[part]
                yield rows, self._backend.operand(self._frame, features, "row", column.precision)

    def _choose(
        self, points: Int64Array, near: Entries, error: Float64Array
    ) -> tuple[Int64Array, Float64Array]:
        """Exact choice among entries that hold the k largest U of each row; U ± error is sure."""
        count = len(points)
        most = self._kth(near.rows, near.values + error, count)
        least = self._kth(near.rows, near.values - error, count)
        # Surely among the k nearest, or surely not: only the rest is measured in float64.
        nearer = near.values - error > most[near.rows]
        doubtful = ~nearer & (near.values + error >= least[near.rows])
        rank = self._k - 1 - np.bincount(near.rows[nearer], minlength=count)
        rows, columns = near.rows[doubtful], near.columns[doubtful]
        squared = self._measure(points, rows, columns)
        return kth_of(self._features, points, Entries(rows, columns, squared), rank)

    def _kth(self, rows: Int64Array, values: Float64Array, count: int) -> Float64Array:
        order = np.lexsort((-values, rows))
        starts = np.searchsorted(rows, np.arange(count))
        return np.asarray(values[order[starts + self._k - 1]])

    def _measure(self, points: Int64Array, rows: Int64Array, columns: Int64Array) -> Float64Array:
        """Squared distances of the doubtful; copies of a point are measured once."""
        pair = rows * len(self._features) + self._same[columns]
        _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
        once = squared_distances(
            *(self._features, points[rows[first]], self._features, columns[first]), self._exponent
        )
        return once[inverse]


def kth_of(
    features: FeatureArray, points: Int64Array, near: Entries, rank: Int64Array
) -> tuple[Int64Array, Float64Array]:
    """The rank-th (from 0) nearest of some candidates of each point, and ‖·‖² to it; exact.

    Args:
        features: of the whole set.
        points: indices of the points.
        near: the candidates: by index into ``points``, their own index, and ‖·‖² in float64.
        rank: of each point.
    """
    near = near.select(np.lexsort((near.values, near.rows)))
    rows, columns, squared = near.rows, near.columns, near.values
    count = len(points)
    starts = np.searchsorted(rows, np.arange(count + 1))
    chosen = starts[:-1] + rank
    tied = too_close(squared, squared[chosen][rows], features.shape[1])
    ties = np.bincount(rows[tied], minlength=count)
    for row in np.flatnonzero(ties > 1):
        # The tied are neighbours in the sorted row, because all of them surround the rim.
        first = starts[row] + int(np.argmax(tied[starts[row] : starts[row + 1]]))
        group = slice(first, first + int(ties[row]))
        place = chosen[row] - first
        chosen[row] = first + nearest_of(features, points[row], columns[group], place)
    return columns[chosen], squared[chosen]
