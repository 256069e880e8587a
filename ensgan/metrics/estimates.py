"""Overlaps of members estimated from a random share of their balls.

Density and coverage are means over balls, so that those of a random part of the balls are unbiased;
fewer points would make balls emptier, and both measures smaller. Radii are of whole sets, and each
ball meets every point of the other member.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ensgan.errors import InputError
from ensgan.metrics.ball_counts import Classes
from ensgan.types import BoolArray, Float64Array, Int64Array, PoolScores, harmonic_mean

_LEAST = 30
"""Balls of a class that are counted at least: their spread is measured, too."""


def _nothing(scores: PoolScores) -> BoolArray:
    return np.zeros(scores.directed.shape, np.bool_)


@dataclass(frozen=True)
class Approximation:
    """How the overlaps of a pool are estimated.

    Attributes:
        share: part of each member's balls that is counted, in (0, 1).
        refine: from the scores so far to pairs bool [M,M] that are scored exactly next; none ends
            it.
    """

    share: float
    refine: Callable[[PoolScores], BoolArray] = _nothing

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:  # neither is NaN
            raise InputError(
                f"a share of {self.share:g} of the balls: give a number between 0 and 1, .2 say"
            )


def sampled_balls(name: str, points: int, classes: Classes | None, share: float) -> Classes:
    """The balls of a set that are counted: a random share of each class.

    Like the points of resamples, they depend on the set's name and size alone.
    """
    whole = classes or Classes(np.arange(points), np.array([0, points]))
    random = np.random.default_rng((zlib.crc32(name.encode()), points, 1))
    parts = [
        np.sort(random.choice(members, counted(len(members), share), replace=False))
        for members in whole.members()
    ]
    starts = np.cumsum([0, *map(len, parts)])
    return Classes(np.concatenate(parts), starts)


def counted(points: int, share: float) -> int:
    """How many of the balls round so many points are counted."""
    return min(points, max(_LEAST, round(share * points)))


def estimate(
    held: Int64Array,
    squares: Int64Array,
    reached: Int64Array,
    unit: Float64Array,
    balls: Int64Array,
    of: Int64Array,
    weights: Float64Array,
) -> tuple[Float64Array, Float64Array]:
    """d of pairs of sets and its standard error, float64 [pairs] each.

    Args:
        held, squares, reached: of the counted balls, the sum of their numbers of points, that of
            their squares, and how many hold a point, [pairs, classes].
        unit: what one point in one ball adds to a density summed over all balls, [pairs, classes].
        balls, of: counted, and there in all, [pairs, classes].
        weights: of the classes, [classes].
    """
    density, coverage = (unit * held / balls) @ weights, (reached / balls) @ weights
    # Errors as if two more balls had been seen, an empty one and one with a point (Agresti and
    # Coull 1998): where few balls or all of them hold points, their own spread says too little.
    n = balls + 2
    u, v = unit * (held + 1) / n, (reached + 1) / n
    uu, vv = unit**2 * (squares + 1) / n - u * u, v - v * v
    scale = weights**2 * (1 - balls / of) / balls  # without replacement
    p, c = (u @ weights)[:, None], (v @ weights)[:, None]

    def variance(a: Float64Array, b: Float64Array) -> Float64Array:
        """Of a·density + b·coverage."""
        values = a**2 * uu + b**2 * vv + 2 * a * b * (u - u * v)
        return np.asarray((np.maximum(values, 0) * scale).sum(axis=1))

    # To second order, d(E) − E(d) of the harmonic mean is this multiple of a variance.
    bias = 2 / (p + c)[:, 0] ** 3 * variance(c, -p)
    d = np.minimum(harmonic_mean(density, coverage) + bias, 2 * np.minimum(density, coverage))
    return d, np.sqrt(variance(2 * (c / (p + c)) ** 2, 2 * (p / (p + c)) ** 2))
