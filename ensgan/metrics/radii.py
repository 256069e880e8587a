"""The radius of every point: the distance to its k-th nearest other point, exactly."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from ensgan.metrics.exact import Balls, nearest_of, relative_error, squared_distances
from ensgan.metrics.features import (
    FeatureArray,
    Frame,
    deviation,
    lattice_exponent,
    representatives,
    robust_centre,
)
from ensgan.metrics.knn import (
    Backend,
    Entries,
    Precision,
    above,
    ball_margin,
    kth_largest_floor,
)
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
    reach = deviation(features, own)
    frame = Frame.spanning(own, reach)
    same = representatives(features)
    lattice = lattice_exponent(features)
    squared = np.zeros(len(features))
    neighbour = _k_copies(same, k)
    todo = np.flatnonzero(neighbour < 0)
    error = relative_error(features.shape[1], 2 * reach, lattice, lattice)
    search = _Search(features, frame, same, k, backend, error, memory_bytes)
    for part in np.split(todo, range(search.rows, len(todo), search.rows)) if len(todo) else ():
        neighbour[part] = search.kth_neighbours(part, "single")
        squared[part] = squared_distances(features, part, features, neighbour[part])
    # A radius lost to underflow is not the empty ball of identical points.
    squared[todo] = np.maximum(squared[todo], _TINY)
    spread = reach if centre is None else deviation(features, centre)
    return Balls(squared, neighbour, same, spread, lattice)


def measure_points(features: FeatureArray, centre: Float64Array) -> Balls:
    """The set as points only: every ball is empty, nothing is multiplied."""
    n = len(features)
    return Balls(
        np.zeros(n),
        np.zeros(n, np.int64),
        representatives(features),
        deviation(features, centre),
        lattice_exponent(features),
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
        self._columns: dict[tuple[int, Precision], Any] = {}

    def _column(self, start: int, precision: Precision) -> Any:
        if (start, precision) in self._columns:
            return self._columns[start, precision]
        placed = self._frame.place(self._features[start : start + self._width])
        operand = self._backend.operand(placed, "column", precision)
        if precision == "single" and self._width >= len(self._features):
            self._columns[start, precision] = operand
        return operand

    def kth_neighbours(self, part: Int64Array, precision: Precision) -> Int64Array:
        """Index of the k-th nearest other point of each point of ``part``."""
        n, dim = self._features.shape
        operand = self._backend.operand(self._frame.place(self._features[part]), "row", precision)
        block: torch.Tensor | None = None
        for start in range(0, n, self._width):
            piece = self._backend.block(operand, self._column(start, precision))
            if self._width >= n:
                block = piece
            else:
                block = piece.new_empty(len(part), n) if block is None else block
                block[:, start : start + piece.shape[1]] = piece
        assert block is not None
        block[torch.arange(len(part)), torch.from_numpy(part)] = -torch.inf
        floor = kth_largest_floor(block, self._k)
        # The margin of squared distances serves their halves with room for the floor's own error.
        margin = ball_margin(operand.norms, np.sqrt(np.maximum(-2 * floor, 0)), dim, precision)
        entries = above(block, (floor - 2 * margin)[:, None])
        return self._choose(part, entries, margin, precision)

    def _choose(
        self, part: Int64Array, found: Entries, margin: Float64Array, precision: Precision
    ) -> Int64Array:
        order = np.lexsort((-found.values, found.rows))
        rows, columns, values = found.rows[order], found.columns[order], found.values[order]
        starts = np.searchsorted(rows, np.arange(len(part)))
        kth = values[starts + self._k - 1]
        nearer = values > (kth + 2 * margin)[rows]
        doubtful = ~nearer & (values >= (kth - 2 * margin)[rows])
        rank = self._k - 1 - np.bincount(rows[nearer], minlength=len(part))
        if precision == "single" and np.count_nonzero(doubtful) > 64 * len(part) + 1000:
            return self.kth_neighbours(part, "double")
        rows, columns = rows[doubtful], columns[doubtful]
        squared = self._measure(part, rows, columns)
        bounds = np.searchsorted(rows, np.arange(len(part) + 1))
        result = np.empty(len(part), np.int64)
        for row, (start, stop) in enumerate(pairwise(bounds)):
            group = columns[start:stop]
            chosen = 0
            if stop - start > 1:
                chosen = nearest_of(
                    self._features, part[row], group, squared[start:stop], rank[row], self._error
                )
            result[row] = group[chosen]
        return result

    def _measure(self, part: Int64Array, rows: Int64Array, columns: Int64Array) -> Float64Array:
        """Squared distances of the doubtful; copies of a point are measured once."""
        pair = rows * len(self._features) + self._same[columns]
        _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
        once = squared_distances(self._features, part[rows[first]], self._features, columns[first])
        return once[inverse]
