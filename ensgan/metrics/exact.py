"""Distances decided beyond doubt: in float64 where that suffices, in integers where it does not.

Sums of squared differences of float64 values have a *relative* error of at most (D+4)·2⁻⁵³,
whatever the offset, because the difference of two floats is rounded once. What lies closer than
that, ties among it, is decided in integer arithmetic on the values themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cmp_to_key

import numpy as np
import numpy.typing as npt

from ensgan.metrics.features import FeatureArray
from ensgan.types import Float64Array, Int64Array

BoolArray = npt.NDArray[np.bool_]

SAFE = 2.0**-900
"""Below this a float64 square may have lost digits to underflow."""


@dataclass(frozen=True)
class Balls:
    """One feature set seen as balls: round every point, up to its k-th nearest other point.

    Attributes:
        squared: float64 [n], squared radii; 0 exactly when k other points are identical.
        neighbour: int64 [n], index of the k-th nearest other point (the radius, exactly).
        representative: int64 [n], index of the first identical point.
        deviation: largest |coordinate − centre of the pool|.
        lattice: q where every value is a multiple of 2^−q, None when there is no such q.
    """

    squared: Float64Array
    neighbour: Int64Array
    representative: Int64Array
    deviation: float
    lattice: int | None

    def __len__(self) -> int:
        return len(self.squared)

    @property
    def duplicates(self) -> int:
        """Points that are copies of an earlier one."""
        return int(np.count_nonzero(self.representative != np.arange(len(self))))

    @property
    def zero_radii(self) -> int:
        """Points whose ball is empty because k others coincide with them."""
        return int(np.count_nonzero(self.squared == 0))


def describe(balls: Balls, name: str, *, is_real: bool) -> list[str]:
    """What should be known about a set before trusting its scores, one sentence each."""
    notes = []
    n, copies = len(balls), balls.duplicates
    if copies == n - 1:
        notes.append(
            f"{name} has zero variance: its {n} points are all the same"
            + ("" if is_real else " (a collapsed generator; it is scored as it is)")
        )
    elif copies:
        share = f"{copies} of the {n} points of {name} are copies of another"
        empty = f", {balls.zero_radii} balls are empty" if balls.zero_radii else ""
        collapsed = not is_real and 2 * copies >= n
        notes.append(share + empty + ("; the generator has collapsed" if collapsed else ""))
    return notes


def relative_error(dim: int, spread: float, first: int | None, second: int | None) -> float:
    """Bound on the relative error of :func:`squared_distances`.

    It is 0 when all values lie on a lattice coarse enough for every partial sum to be an integer
    multiple below 2⁵³.

    Args:
        dim: D.
        spread: bound on |difference| in any coordinate.
        first, second: lattice exponents of the two sets.
    """
    if first is not None and second is not None:
        largest = dim * np.ldexp(spread, max(first, second)) ** 2
        if largest < 2.0**53:
            return 0.0
    return (dim + 4) * 2.0**-53


def squared_distances(
    first: FeatureArray, i: Int64Array, second: FeatureArray, j: Int64Array
) -> Float64Array:
    """‖first[i] − second[j]‖² for index arrays of equal length, float64 sums of squares."""
    result = np.empty(len(i))
    rows = max(1, (1 << 17) // first.shape[1])  # the working set stays in the cache
    for start in range(0, len(i), rows):
        part = slice(start, start + rows)
        difference = np.subtract(first[i[part]], second[j[part]], dtype=np.float64)
        np.einsum("ij,ij->i", difference, difference, out=result[part])
    return result


def compare_distances(origin: FeatureArray, first: FeatureArray, second: FeatureArray) -> int:
    """Sign of ‖origin − first‖² − ‖origin − second‖², exact for any finite floats [D]."""
    mantissa, exponent = np.frexp(np.stack((origin, first, second)).astype(np.float64))
    digits = np.ldexp(mantissa, 53).astype(np.int64).astype(object)
    used = exponent[mantissa != 0]
    shift = np.where(mantissa != 0, exponent - (used.min() if used.size else 0), 0).astype(object)
    point, a, b = digits << shift
    difference = ((point - a) ** 2).sum() - ((point - b) ** 2).sum()
    return int(difference > 0) - int(difference < 0)


def inside(
    centres: FeatureArray,
    balls: Balls,
    i: Int64Array,
    points: FeatureArray,
    j: Int64Array,
    error: float,
) -> BoolArray:
    """Whether points[j] lies strictly inside the ball round centres[i]; exact, ties are outside.

    Args:
        error: what :func:`relative_error` says for the two sets.
    """
    squared = squared_distances(centres, i, points, j)
    radius = balls.squared[i]
    result = np.asarray(squared < radius)
    doubtful = np.abs(squared - radius) <= 2 * error * (squared + radius)
    if error == 0:
        doubtful[:] = False
    doubtful |= (squared < SAFE) | (radius < SAFE)
    doubtful &= radius > 0
    close = np.flatnonzero(doubtful)
    rims = balls.neighbour[i[close]]
    result[close] = False  # right for copies of the neighbour, the usual tie
    for index in close[~_equal_rows(points, j[close], centres, rims)]:
        rim = centres[balls.neighbour[i[index]]]
        result[index] = compare_distances(centres[i[index]], points[j[index]], rim) < 0
    return result


def _equal_rows(
    first: FeatureArray, i: Int64Array, second: FeatureArray, j: Int64Array
) -> BoolArray:
    result = np.empty(len(i), np.bool_)
    rows = max(1, (1 << 17) // first.shape[1])
    for start in range(0, len(i), rows):
        part = slice(start, start + rows)
        np.all(first[i[part]] == second[j[part]], axis=1, out=result[part])
    return result


def nearest_of(
    features: FeatureArray, i: int, candidates: Int64Array, squared: Float64Array, rank: int,
    error: float,
) -> int:  # fmt: skip
    """Position in ``candidates`` of the rank-th (from 0) nearest to point i, decided exactly."""
    order = np.argsort(squared, kind="stable")
    chosen = squared[order[rank]]
    close = np.abs(squared - chosen) <= 2 * error * (squared + chosen)
    close |= (squared < SAFE) & (chosen < SAFE)
    group = np.flatnonzero(close)
    if len(group) == 1 or error == 0:
        return int(order[rank])
    rows = features[candidates[group]]
    if (rows == rows[0]).all():
        return int(order[rank])
    before = int(np.count_nonzero(squared < squared[group].min()))

    def compare(a: int, b: int) -> int:
        return compare_distances(features[i], features[candidates[a]], features[candidates[b]])

    positions: list[int] = group.tolist()
    ranked = sorted(positions, key=cmp_to_key(compare))
    return ranked[rank - before]
