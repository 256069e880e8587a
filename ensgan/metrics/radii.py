"""The radius of every point: the distance to its k-th nearest other point, exactly."""

from __future__ import annotations

import numpy as np
import torch

from ensgan.metrics.entries import Entries, above, kth_largest_floor
from ensgan.metrics.exact import SAFE, Balls, nearest_of, relative_error, squared_distances
from ensgan.metrics.features import (
    Extent,
    FeatureArray,
    Frame,
    lattice_exponent,
    representatives,
    robust_centre,
)
from ensgan.metrics.knn import Backend, Operand, Precision, ball_margin, pair_error
from ensgan.types import Float64Array, Int64Array

_TINY = 5e-324


def measure_balls(
    features: FeatureArray,
    k: int,
    backend: Backend,
    *,
    centre: Float64Array | None = None,
    memory_bytes: int = 1 << 30,
) -> Balls:
    """Radii of a set of checked features [n,D], n > k.

    The set is centred on itself, so that a tight set far from all others keeps its digits.

    Args:
        features: finite float16/32/64.
        k: which neighbour sets the radius.
        backend: computes the blocks.
        centre: origin about which ``deviation`` is measured (default: the set's own).
        memory_bytes: bound on the working memory.
    """
    own = robust_centre(features)
    extent = Extent.of(features)
    reach = extent.deviation(own)
    frame = Frame.spanning(own, reach)
    same = representatives(features)
    lattice = lattice_exponent(features, 2 * reach)
    squared = np.zeros(len(features))
    neighbour = _k_copies(same, k)
    todo = np.flatnonzero(neighbour < 0)
    error = relative_error(features.shape[1], 2 * reach, lattice, lattice)
    search = _Search(features, frame, same, k, backend, error, memory_bytes)
    for start in range(0, len(todo), search.rows):
        part = todo[start : start + search.rows]
        neighbour[part], squared[part] = search.kth_neighbours(part, "single")
    # A radius lost to underflow is not the empty ball of identical points.
    squared[todo] = np.maximum(squared[todo], _TINY)
    return Balls(
        squared, neighbour, same, reach if centre is None else extent.deviation(centre), lattice
    )


def measure_points(features: FeatureArray, centre: Float64Array) -> Balls:
    """The set as points only: every ball is empty, nothing is multiplied."""
    n = len(features)
    reach = Extent.of(features).deviation(centre)
    return Balls(
        np.zeros(n),
        np.zeros(n, np.int64),
        representatives(features),
        reach,
        lattice_exponent(features, 2 * reach),
    )


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


class _Search:
    """k-th neighbours of runs of points among all points of the set."""

    def __init__(
        self,
        features: FeatureArray,
        frame: Frame,
        same: Int64Array,
        k: int,
        backend: Backend,
        error: float,
        memory_bytes: int,
    ) -> None:
        self._features, self._frame, self._same = features, frame, same
        self._k, self._backend, self._error = k, backend, error
        n, dim = features.shape
        self.rows = int(np.clip(memory_bytes // (32 * n), 1, 1024))
        self._width = int(np.clip(memory_bytes // (32 * dim), self.rows, n))
        self._whole: Operand | None = None

    def _placed(self, start: int, stop: int, precision: Precision) -> Operand:
        placed = self._frame.place(self._features[start:stop])
        return self._backend.operand(placed, "column", precision)

    def _column(self, start: int, precision: Precision) -> Operand:
        stop = min(start + self._width, len(self._features))
        if precision == "double" or stop - start < len(self._features):
            return self._placed(start, stop, precision)
        if self._whole is None:
            self._whole = self._placed(start, stop, precision)
        return self._whole

    def _rows(self, part: Int64Array, precision: Precision) -> Operand:
        if self._whole is not None and precision == "single":
            return self._backend.as_rows(self._whole.part(part))
        placed = self._frame.place(self._features[part])
        return self._backend.operand(placed, "row", precision)

    def kth_neighbours(
        self, part: Int64Array, precision: Precision
    ) -> tuple[Int64Array, Float64Array]:
        """Index of the k-th nearest other point of each point of ``part``, and ‖·‖² to it."""
        n, dim = self._features.shape
        norms = np.empty(n)
        block: torch.Tensor | None = None
        rows: Operand | None = None
        for start in range(0, n, self._width):
            column = self._column(start, precision)
            rows = self._rows(part, precision) if rows is None else rows
            norms[start : start + len(column)] = column.norms
            piece = self._backend.block(rows, column)
            if len(column) == n:
                block = piece
            else:
                block = piece.new_empty(len(part), n) if block is None else block
                block[:, start : start + len(column)] = piece
        assert block is not None and rows is not None
        block[torch.arange(len(part)), torch.from_numpy(part)] = -torch.inf
        floor = kth_largest_floor(block, self._k)
        # The margin of squared distances serves their halves with room for the floor's own error.
        margin = ball_margin(rows.norms, np.sqrt(np.maximum(-2 * floor, 0)), dim, precision)
        found = above(block, (floor - 2 * margin)[:, None])
        error = pair_error(rows.norms[found.rows], norms[found.columns], dim, precision)
        return self._choose(part, found, error, precision)

    def _choose(
        self, part: Int64Array, found: Entries, error: Float64Array, precision: Precision
    ) -> tuple[Int64Array, Float64Array]:
        """Exact choice among entries that hold the k largest U of each row; U ± error is sure."""
        most = self._kth(found.rows, found.values + error, len(part))
        least = self._kth(found.rows, found.values - error, len(part))
        nearer = found.values - error > most[found.rows]
        doubtful = ~nearer & (found.values + error >= least[found.rows])
        if precision == "single" and np.count_nonzero(doubtful) > 64 * len(part) + 1000:
            return self.kth_neighbours(part, "double")
        rank = self._k - 1 - np.bincount(found.rows[nearer], minlength=len(part))
        rows, columns = found.rows[doubtful], found.columns[doubtful]
        squared = self._measure(part, rows, columns)
        order = np.lexsort((squared, rows))
        rows, columns, squared = rows[order], columns[order], squared[order]
        starts = np.searchsorted(rows, np.arange(len(part) + 1))
        chosen = starts[:-1] + rank
        rim = squared[chosen][rows]
        tied = (np.abs(squared - rim) <= 2 * self._error * (squared + rim)) | (rim < SAFE)
        ties = np.bincount(rows[tied], minlength=len(part))
        for row in np.flatnonzero(ties > 1) if self._error else ():
            group = slice(starts[row], starts[row + 1])
            chosen[row] = starts[row] + nearest_of(
                self._features, part[row], columns[group], squared[group], rank[row], self._error
            )
        return columns[chosen], squared[chosen]

    def _kth(self, rows: Int64Array, values: Float64Array, count: int) -> Float64Array:
        order = np.lexsort((-values, rows))
        starts = np.searchsorted(rows, np.arange(count))
        return np.asarray(values[order[starts + self._k - 1]])

    def _measure(self, part: Int64Array, rows: Int64Array, columns: Int64Array) -> Float64Array:
        """Squared distances of the doubtful; copies of a point are measured once."""
        pair = rows * len(self._features) + self._same[columns]
        _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
        once = squared_distances(self._features, part[rows[first]], self._features, columns[first])
        return once[inverse]
