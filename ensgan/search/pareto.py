"""Pareto tools: Intra-d is maximised, Inter-d minimised, and so is a third objective."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ensgan.errors import InputError
from ensgan.types import Float64Array, Front, FrontPoint, Int64Array

Points: TypeAlias = Front | npt.ArrayLike | Iterable[FrontPoint]
"""A front with all its objectives, front points (the first two), or an array [n,2] or [n,3]."""

REFERENCE_INTRA = 0.0
REFERENCE_INTER = 1.0
TIE = 1e-12
"""Objectives closer than this are equal: incremental sums differ in the last bits only."""


def objective_values(points: Points) -> Float64Array:
    """The objectives of ``points`` as float64 [n,2] or [n,3]: Intra-d, Inter-d, a third.

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
            (point.intra_d, point.inter_d) if isinstance(point, FrontPoint) else point
            for point in cast("Iterable[Any]", points)
        ]
    values = np.asarray(rows, np.float64)
    if values.size == 0:
        return np.zeros((0, width))
    if values.ndim != 2 or values.shape[1] not in (2, 3):
        raise InputError(
            f"points must be [n,2] (Intra-d, Inter-d) or [n,3], not {list(values.shape)}"
        )
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise InputError(f"point {row} has objectives {values[row].tolist()}: not finite")
    return values


def pareto_front(points: Points) -> Int64Array:
    """Indices of the non-dominated points, by descending Intra-d; of equal points the first.

    A point dominates another when it is at least as good in all objectives (Intra-d up, Inter-d
    and a third one down) and better in one.
    """
    values = objective_values(points)
    if len(values) == 0:
        return np.zeros(0, np.int64)
    if values.shape[1] == 3:
        return _front_of_three(values)
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
    """Area dominated by ``points``, up to the reference point Intra-d 0, Inter-d 1.

    Points on the far side of the reference point add nothing; Intra-d is not clipped above, so
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
    values = values[(values[:, 1] < REFERENCE_INTER) & (values[:, 0] > REFERENCE_INTRA)]
    values = values[pareto_front(values)]  # descending Intra-d, hence descending Inter-d
    if len(values) == 0:
        return 0.0
    lower = np.append(values[1:, 0], REFERENCE_INTRA)
    return float(((values[:, 0] - lower) * (REFERENCE_INTER - values[:, 1])).sum())


def _volume(values: Float64Array, most: float) -> float:
    """Each point's new area counts for every limit from its own third value up to ``most``."""
    part = values[:, 2] / most if most > 0 else np.zeros(len(values))
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

    Kept by ascending Inter-d, hence ascending Intra-d: whether a batch of candidates enters is
    one binary search.
    """

    def __init__(self) -> None:
        self.intra: Float64Array = np.zeros(0)
        self.inter: Float64Array = np.zeros(0)
        self.members: list[tuple[int, ...]] = []
        self.entries = 0
        """How many subsets ever entered."""

    def __len__(self) -> int:
        return len(self.members)

    def candidates(
        self, intra: Float64Array, inter: Float64Array, cost: Float64Array
    ) -> Int64Array:
        """Indices of the values that would enter, a front among themselves (no cost)."""
        entering = np.flatnonzero(intra > self.best_intra(inter, cost) + TIE)
        if len(entering) > 1:
            values = np.column_stack((intra[entering], inter[entering]))
            entering = entering[pareto_front(values)]
        return entering

    def best_intra(self, inter: Float64Array, cost: Float64Array) -> Float64Array:
        """The largest Intra-d in here at most this Inter-d (and cost), -inf where there is none."""
        best = np.concatenate(([-np.inf], self.intra))
        found: Float64Array = best[np.searchsorted(self.inter, inter + TIE, side="right")]
        return found

    def shortfall(
        self, intra: Float64Array, inter: Float64Array, cost: Float64Array
    ) -> Float64Array:
        """How far below the front each value lies in Intra-d at its own Inter-d (≤ 0: beyond)."""
        gap: Float64Array = np.maximum(REFERENCE_INTRA, self.best_intra(inter, cost)) - intra
        return gap

    def gains(self, intra: Float64Array, inter: Float64Array, cost: Float64Array) -> Float64Array:
        """Hypervolume that each value alone would add (no cost)."""
        # Between two steps of the front its Intra-d is constant: [n, steps + 1] rectangles.
        level = np.concatenate(([REFERENCE_INTRA], np.maximum(self.intra, REFERENCE_INTRA)))
        start = np.concatenate(([-np.inf], self.inter))
        stop = np.minimum(np.append(self.inter, np.inf), REFERENCE_INTER)
        width = np.maximum(0.0, stop - np.maximum(start, np.asarray(inter)[:, None]))
        height = np.maximum(0.0, np.asarray(intra)[:, None] - level)
        added: Float64Array = (width * height).sum(axis=1)
        return added

    def steps(self) -> Float64Array:
        """How wide the front is at each subset: the area to its neighbours."""
        return np.diff(self.intra, prepend=0.0) * np.diff(self.inter, append=1.0)

    def insert(
        self, intra: float, inter: float, members: tuple[int, ...], cost: float = 0.0
    ) -> bool:
        """Add one subset and drop those it dominates; False when it does not enter."""
        position = int(np.searchsorted(self.inter, inter + TIE, side="right"))
        if position and self.intra[position - 1] >= intra - TIE:
            return False
        # Those dominated have Inter-d ≥ inter and Intra-d ≤ intra: one run.
        start = int(np.searchsorted(self.inter, inter - TIE, side="left"))
        stop = max(start, int(np.searchsorted(self.intra, intra + TIE, side="right")))
        self.inter = np.concatenate((self.inter[:start], [inter], self.inter[stop:]))
        self.intra = np.concatenate((self.intra[:start], [intra], self.intra[stop:]))
        self.members[start:stop] = [members]
        self.entries += 1
        return True

    def hypervolume(self) -> float:
        """Hypervolume of the archive (see :func:`hypervolume`)."""
        return hypervolume(np.column_stack((self.intra, self.inter)))
