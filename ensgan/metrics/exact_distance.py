"""Distances decided beyond doubt: in float64 where that suffices, in whole numbers where not.

Two layers, each with its proof:

1. A float64 sum of D squared differences has a relative error of at most (D+4)·2⁻⁵³ whatever the
   offset: a difference of two floats is rounded once, a square once, D−1 additions follow (Higham,
   *Accuracy and Stability of Numerical Algorithms*, 2002, section 3.1). Squares that underflow add
   at most D·2⁻¹⁰⁷⁴.
2. What lies closer than that, ties among it, is computed in whole numbers: every finite float is
   a whole multiple of a power of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ensgan.metrics.features import FeatureArray
from ensgan.types import BoolArray, Float64Array, Int64Array

BALL_ARRAYS = ("squared", "neighbour", "representative", "deviation", "exponent")

_CACHED_VALUES = 1 << 17  # values worked on together: they stay in the cache


@dataclass(frozen=True)
class Balls:
    """One feature set seen as balls: round every point, up to its k-th nearest other point.

    Attributes:
        squared: float64 [n], squared radii in units of 2^(2·exponent); 0 exactly when k other
            points are identical.
        neighbour: int64 [n], index of the k-th nearest other point (the radius, exactly).
        representative: int64 [n], index of the first identical point (of the same class, where
            classes are scored apart).
        deviation: largest |coordinate − centre of the pool|.
        exponent: power of two taken out of distances; 0 unless their squares would overflow or
            vanish (see ``radii``).
    """

    squared: Float64Array
    neighbour: Int64Array
    representative: Int64Array
    deviation: float
    exponent: int = 0

    def __len__(self) -> int:
        return len(self.squared)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Balls:
        """Balls from a file that holds ``vars(balls)``, the arrays ``BALL_ARRAYS``."""
        squared, neighbour, representative = (arrays[name] for name in BALL_ARRAYS[:3])
        deviation, exponent = float(arrays["deviation"]), int(arrays["exponent"])
        return cls(squared, neighbour, representative, deviation, exponent)

    def radii(self, exponent: int) -> Float64Array:
        """Radii [n] in units of 2^exponent."""
        return np.asarray(np.ldexp(np.sqrt(self.squared), self.exponent - exponent))


def describe(balls: Balls, name: str, *, is_real: bool) -> list[str]:
    """What should be known about a set before trusting its scores, one sentence each."""
    n = len(balls)
    copies = int(np.count_nonzero(balls.representative != np.arange(n)))
    if copies == n - 1:
        collapsed = "" if is_real else " (a collapsed generator; it is scored as it is)"
        return [f"{name} has zero variance: its {n} points are all the same{collapsed}"]
    if not copies:
        return []
    empty = int(np.count_nonzero(balls.squared == 0))
    sentence = f"{copies} of the {n} points of {name} are copies of another"
    sentence += f", {empty} balls are empty" if empty else ""
    collapsed = "; the generator has collapsed" if not is_real and 2 * copies >= n else ""
    return [sentence + collapsed]


def squared_distances(
    first: FeatureArray, i: Int64Array, second: FeatureArray, j: Int64Array, exponent: int = 0
) -> Float64Array:
    """‖first[i] − second[j]‖² in units of 2^(2·exponent) as float64 sums of squares, [n].

    Args:
        first, second: [·,D] features.
        i, j: int64 [n], which rows.
        exponent: see :class:`Balls`.
    """
    result = np.empty(len(i))
    rows = max(1, _CACHED_VALUES // first.shape[1])
    with np.errstate(over="ignore"):
        for start in range(0, len(i), rows):
            part = slice(start, start + rows)
            difference = np.subtract(first[i[part]], second[j[part]], dtype=np.float64)
            if exponent:
                np.ldexp(difference, -exponent, out=difference)
            np.einsum("ij,ij->i", difference, difference, out=result[part])
    return result


def too_close(first: Float64Array, second: Float64Array, dim: int) -> BoolArray:
    """Where two of :func:`squared_distances` may be in either order, [n] (layer 1 above)."""
    # Twice the bound: the sums it is taken of are themselves computed.
    bound = 2 * ((dim + 4) * 2.0**-53 * (first + second) + dim * 2.0**-1074)
    # An overflow is farther than any radius: radii are finite in the units of their set.
    return (np.abs(first - second) <= bound) & np.isfinite(first)


def exact_squares(origins: FeatureArray, *others: FeatureArray) -> list[npt.NDArray[Any]]:
    """‖origins − other‖² for each other, [n] whole numbers of one unit common to all.

    int64 where they fit (integers and fixed-point features, the usual place of ties), Python's
    integers otherwise.

    Args:
        origins: [n,D], finite.
        others: [n,D] each, finite.
    """
    mantissa, exponent = np.frexp(np.stack((origins, *others)).astype(np.float64))
    digits = np.ldexp(mantissa, 53).astype(np.int64)
    used = digits != 0
    # The lowest bit set in any value is the unit: all values are whole multiples of it.
    lowest_bits = np.frexp((digits & -digits).astype(np.float64))[1] + exponent
    unit = int(lowest_bits[used].min(initial=2000))
    highest = int(exponent[used].max(initial=-2000))
    # Differences need a bit more than values, squares twice that, D of them log₂ D more.
    bits = 2 * (highest + 54 - unit + 1) + int(np.ceil(np.log2(digits.shape[-1])))
    # digits·2^(exponent−53) in units of 2^(unit−54)
    shift = np.where(used, exponent + 1 - unit, 0)
    if bits < 63:
        # Zeros follow the lowest bit: a shift to the right loses none that is set.
        whole = np.where(
            shift >= 0, digits << np.maximum(shift, 0), digits >> np.maximum(-shift, 0)
        )
    else:
        down, up = np.maximum(-shift, 0), np.maximum(shift, 0).astype(object)
        whole = (digits >> down).astype(object) << up
    return [((whole[0] - other) ** 2).sum(axis=1) for other in whole[1:]]


def inside(
    centres: FeatureArray, balls: Balls, i: Int64Array, points: FeatureArray, j: Int64Array
) -> BoolArray:
    """Whether points[j] lies strictly inside the ball round centres[i]; exact, ties are outside."""
    squared = squared_distances(centres, i, points, j, balls.exponent)
    radius = balls.squared[i]
    result = np.asarray(squared < radius)
    close = np.flatnonzero(too_close(squared, radius, centres.shape[1]) & (radius > 0))
    result[close] = False
    rows = max(1, _CACHED_VALUES // centres.shape[1])
    for start in range(0, len(close), rows):
        pair = close[start : start + rows]
        rims = balls.neighbour[i[pair]]
        # The usual tie is a copy of the neighbour that sets the radius: on the rim, not inside.
        unlike = (points[j[pair]] != centres[rims]).any(axis=1)
        pair, rims = pair[unlike], rims[unlike]
        to_point, to_rim = exact_squares(centres[i[pair]], points[j[pair]], centres[rims])
        result[pair] = to_point < to_rim
    return result


def nearest_of(features: FeatureArray, i: int, candidates: Int64Array, rank: int) -> int:
    """Position in ``candidates`` of the rank-th (from 0) nearest to point i, decided exactly."""
    rows = features[candidates]
    if (rows == rows[0]).all():
        return rank
    (squares,) = exact_squares(np.broadcast_to(features[i], rows.shape), rows)
    return int(np.argsort(squares, kind="stable")[rank])
