"""Pareto tools: the first objective is maximised, the second and a third one are minimised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ensgan.errors import InputError
from ensgan.types import Float64Array, Front, FrontPoint, Int64Array

Points: TypeAlias = Front | npt.ArrayLike | Iterable[FrontPoint]
"""A front with all its objectives, front points (the first two), or an array [n,2] or [n,3]."""

REFERENCE_FIRST = 0.0
REFERENCE_SECOND = 1.0
_SLICES = 16  # of the third objective, for what a candidate would add
TIE = 1e-12
"""Objectives closer than this are equal: incremental sums differ in the last bits only."""


def objective_values(points: Points) -> Float64Array:
    """The objectives of ``points`` as float64 [n,2] or [n,3].

    Args:
        points: a front, front points (their first two objectives), or an array.

    Raises:
        InputError: another shape, or values that are not finite.
    """
    rows: Any = points
    width = 2
    if isinstance(points, Front):
        width = len(points.axes)
        rows = [points.values(point) for point in points]
    elif not isinstance(points, np.ndarray):
        rows = [
            (point.first, point.second) if isinstance(point, FrontPoint) else point
            for point in cast("Iterable[Any]", points)
        ]
    values = np.asarray(rows, np.float64)
    if values.size == 0:
        return np.zeros((0, width))
    if values.ndim != 2 or values.shape[1] not in (2, 3):
        raise InputError(
            f"points must be [n,2] (first objective, second) or [n,3], not {list(values.shape)}"
        )
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise InputError(f"point {row} has objectives {values[row].tolist()}: not finite")
    return values


def pareto_front(points: Points) -> Int64Array:
    """Indices of the non-dominated points by falling first objective; of equal points the first.

    A point dominates another when it is at least as good in all objectives (the first up, the
    others down) and better in one.
    """
    values = objective_values(points)
    if len(values) == 0:
        return np.zeros(0, np.int64)
    if values.shape[1] == 3:
        return _front_of_three(values)
    # By rising second objective a point is dominated exactly by a better first one before it.
    order = np.lexsort((np.arange(len(values)), -values[:, 0], values[:, 1]))
    best_before = np.maximum.accumulate(values[order, 0])
    keep = np.ones(len(order), bool)
    keep[1:] = values[order[1:], 0] > best_before[:-1]
    return order[keep][::-1].astype(np.int64)


def _front_of_three(values: Float64Array) -> Int64Array:
    # In this order nothing is dominated by what comes after it.
    order = np.lexsort((np.arange(len(values)), values[:, 1], -values[:, 0], values[:, 2]))
    kept = np.zeros(0, np.int64)
    for index in order:
        better = (values[kept, 0] >= values[index, 0]) & (values[kept, 1] <= values[index, 1])
        if not better.any():
            kept = np.append(kept, index)
    return kept[np.lexsort((values[kept, 1], -values[kept, 0]))]


def hypervolume(points: Points, most: float | None = None) -> float:
    """Area dominated by ``points``, up to the reference point (0, 1).

    Points on the far side of the reference point add nothing; the first is not clipped above, so
    the area can exceed 1. Source: Zitzler & Thiele 1998 (the S metric).

    With a third objective it is the volume up to a third value of ``most``, in parts of it: the
    mean, over all limits from 0 to ``most``, of the area that the points within the limit
    dominate.

    Args:
        points: a front (it knows its own ``most``), front points, or an array [n,2] or [n,3].
        most: reference of the third objective, for an array [n,3]: the whole pool's value.

    Raises:
        InputError: three columns without ``most``, or what is not finite.
    """
    values = objective_values(points)
    if values.shape[1] == 3:
        if isinstance(points, Front) and len(points.reference) > 2:
            most = points.reference[2]
        if most is None:
            raise InputError("the volume of three objectives needs the third one's largest value")
        return _volume(values, most)
    values = values[(values[:, 1] < REFERENCE_SECOND) & (values[:, 0] > REFERENCE_FIRST)]
    values = values[pareto_front(values)]  # both descending
    if len(values) == 0:
        return 0.0
    lower = np.append(values[1:, 0], REFERENCE_FIRST)
    return float(((values[:, 0] - lower) * (REFERENCE_SECOND - values[:, 1])).sum())


def _volume(values: Float64Array, most: float) -> float:
    """Each point's new area counts for every limit from its own third value up to ``most``."""
    part = values[:, 2] / most if most > 0 else np.zeros(len(values))
    # By rising third value the points within every limit are those met so far.
    flat, total = Archive(), 0.0
    for index in np.argsort(part, kind="stable").tolist():
        row = values[index : index + 1]
        gain = float(flat.gains(row[:, 0], row[:, 1], np.zeros(1))[0])
        if gain > 0.0 and part[index] < 1.0:
            total += gain * (1.0 - part[index])
            flat.insert(float(row[0, 0]), float(row[0, 1]), ())
    return float(total)


class Archive:
    """The non-dominated subsets seen so far, unbounded; members are kept as sorted indices.

    Kept by rising second, hence rising first objective: whether a batch of candidates enters is
    one binary search.
    """

    def __init__(self) -> None:
        self.first: Float64Array = np.zeros(0)
        self.second: Float64Array = np.zeros(0)
        self.members: list[tuple[int, ...]] = []
        self.entries = 0
        """How many subsets ever entered."""

    def __len__(self) -> int:
        return len(self.members)

    def candidates(
        self, first: Float64Array, second: Float64Array, cost: Float64Array
    ) -> Int64Array:
        """Indices of the values that would enter, a front among themselves (no cost)."""
        entering = np.flatnonzero(first > self.best_first(second, cost) + TIE)
        if len(entering) > 1:
            values = np.column_stack((first[entering], second[entering]))
            entering = entering[pareto_front(values)]
        return entering

    def best_first(self, second: Float64Array, cost: Float64Array) -> Float64Array:
        """The largest first objective within this second (and cost), -inf where there is none."""
        best = np.concatenate(([-np.inf], self.first))
        return np.asarray(best[np.searchsorted(self.second, second + TIE, side="right")])

    def shortfall(
        self, first: Float64Array, second: Float64Array, cost: Float64Array
    ) -> Float64Array:
        """How far below the front each value lies in the first objective (≤ 0: beyond)."""
        return np.maximum(REFERENCE_FIRST, self.best_first(second, cost)) - first

    def gains(self, first: Float64Array, second: Float64Array, cost: Float64Array) -> Float64Array:
        """Hypervolume that each value alone would add (no cost)."""
        # Between two steps of the front its first objective is constant: [n, steps + 1] rectangles.
        level = np.concatenate(([REFERENCE_FIRST], np.maximum(self.first, REFERENCE_FIRST)))
        start = np.concatenate(([-np.inf], self.second))
        stop = np.minimum(np.append(self.second, np.inf), REFERENCE_SECOND)
        width = np.maximum(0.0, stop - np.maximum(start, np.asarray(second)[:, None]))
        height = np.maximum(0.0, np.asarray(first)[:, None] - level)
        return np.asarray((width * height).sum(axis=1))

    def steps(self) -> Float64Array:
        """How wide the front is at each subset: the area to its neighbours."""
        return np.diff(self.first, prepend=0.0) * np.diff(self.second, append=1.0)

    def insert(
        self, first: float, second: float, members: tuple[int, ...], cost: float = 0.0
    ) -> bool:
        """Add one subset and drop those it dominates; False when it does not enter."""
        position = int(np.searchsorted(self.second, second + TIE, side="right"))
        if position and self.first[position - 1] >= first - TIE:
            return False
        # What it dominates has a larger second and a smaller first objective: one run.
        start = int(np.searchsorted(self.second, second - TIE, side="left"))
        stop = max(start, int(np.searchsorted(self.first, first + TIE, side="right")))
        firsts = np.concatenate((self.first[:start], [first], self.first[stop:]))
        seconds = np.concatenate((self.second[:start], [second], self.second[stop:]))
        # Stored together: Ctrl-C in between would leave columns of different lengths.
        self.first, self.second, self.members[start:stop] = firsts, seconds, [members]
        self.entries += 1
        return True

    def hypervolume(self) -> float:
        """Hypervolume of the archive (see :func:`hypervolume`)."""
        return hypervolume(np.column_stack((self.first, self.second)))


class CostArchive(Archive):
    """The non-dominated subsets of three objectives: the third is a cost, minimised.

    Kept in the order of entry; every candidate is compared with all.

    Args:
        most: the whole pool's cost, the reference of the hypervolume.
    """

    def __init__(self, most: float = 1.0) -> None:
        super().__init__()
        self.most = most
        self.cost: Float64Array = np.zeros(0)

    def candidates(
        self, first: Float64Array, second: Float64Array, cost: Float64Array
    ) -> Int64Array:
        """Indices of the values that no subset in here dominates."""
        return np.flatnonzero(first > self.best_first(second, cost) + TIE)

    def best_first(self, second: Float64Array, cost: Float64Array) -> Float64Array:
        """The largest first objective within this second and cost, -inf where there is none."""
        # Sorted by the first objective, the first subset within the limits is the best one; the
        # column of -inf at the end answers where there is none.
        order = np.argsort(-self.first, kind="stable")
        levels = np.append(self.first[order], -np.inf)
        best = np.empty(len(second))
        step = max(1, (1 << 20) // max(1, len(self)))
        for start in range(0, len(second), step):
            rows = slice(start, start + step)
            as_good = np.ones((len(second[rows]), len(self) + 1), bool)
            as_good[:, :-1] = self.second[order] <= second[rows, None] + TIE
            as_good[:, :-1] &= self.cost[order] <= cost[rows, None] + TIE
            best[rows] = levels[as_good.argmax(axis=1)]
        return best

    def gains(self, first: Float64Array, second: Float64Array, cost: Float64Array) -> Float64Array:
        """Volume that each value alone would add, up to the largest cost in here and there.

        Between two costs the front of the subsets that are cheap enough is constant. With many
        different costs a few of them stand for all: the order of the values is what matters.
        """
        costs = np.unique(np.concatenate((self.cost, cost)))
        if len(costs) > _SLICES:
            costs = np.unique(np.quantile(costs, np.linspace(0, 1, _SLICES), method="nearest"))
        # The dearest subsets count too: one more slice as thick as the mean.
        thickness = np.append(np.diff(costs), (np.ptp(costs) or 1.0) / len(costs))
        total = np.zeros(len(first))
        for level, thick in zip(costs, thickness, strict=True):
            reach = np.flatnonzero(cost <= level + TIE)
            below = np.flatnonzero(self.cost <= level + TIE)
            flat = Archive()
            values = np.column_stack((self.first[below], self.second[below]))
            kept = below[pareto_front(values)][::-1]
            flat.first, flat.second = self.first[kept], self.second[kept]
            total[reach] += thick * flat.gains(first[reach], second[reach], cost[reach])
        return total

    def insert(
        self, first: float, second: float, members: tuple[int, ...], cost: float = 0.0
    ) -> bool:
        """Add one subset and drop those it dominates; False when it does not enter."""
        as_good = (self.first >= first - TIE) & (self.second <= second + TIE)
        if (as_good & (self.cost <= cost + TIE)).any():
            return False
        stays = (self.first > first + TIE) | (self.second < second - TIE) | (self.cost < cost - TIE)
        firsts, seconds, costs = (
            np.append(column[stays], value)
            for column, value in ((self.first, first), (self.second, second), (self.cost, cost))
        )
        kept = [m for m, stay in zip(self.members, stays, strict=True) if stay] + [members]
        self.first, self.second, self.cost, self.members = firsts, seconds, costs, kept
        self.entries += 1
        return True

    def steps(self) -> Float64Array:
        """All alike, the earliest first."""
        return -np.arange(len(self), dtype=np.float64)

    def hypervolume(self) -> float:
        """The volume, its third side in parts of the whole pool's cost."""
        return hypervolume(np.column_stack((self.first, self.second, self.cost)), self.most)
