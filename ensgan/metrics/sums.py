"""Scores of a pool from the counts of its blocks: whole, by class, by resample, estimated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensgan.errors import InputError
from ensgan.metrics.ball_counts import counted, kept_count, kept_points
from ensgan.metrics.blocks import BlockScores
from ensgan.types import (
    BoolArray,
    Float64Array,
    Int64Array,
    PairPrecision,
    PoolScores,
    Resamples,
    UInt8Array,
    harmonic_mean,
)

_LARGEST_BYTES = 1 << 30
_MOST_ROUNDS = 1_000_000


@dataclass(frozen=True)
class Approximation:
    """How the overlaps of a pool are estimated: from a random share of its members' balls.

    Density and coverage are means over balls, so that those of a random part of the balls are
    unbiased; fewer points would make balls emptier, and both measures smaller. Radii are of whole
    sets, and each ball meets every point of the other member.

    Attributes:
        share: part of each member's balls that is counted, in (0, 1).
        refine: from the scores so far to pairs bool [M,M] that are scored exactly next; none ends
            it.
    """

    share: float
    refine: Callable[[PoolScores], BoolArray] = lambda scores: np.zeros_like(scores.estimated)

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:  # neither is NaN
            raise InputError(
                f"a share of {self.share:g} of the balls: give a number between 0 and 1, .2 say"
            )


@dataclass(frozen=True)
class ClassScores:
    """Density and coverage of every member within each class.

    Attributes:
        share: float64 [classes], part of the real points that is of each class.
        density, coverage: float64 [classes, M].
    """

    share: Float64Array
    density: Float64Array
    coverage: Float64Array

    def macro(self) -> tuple[Float64Array, Float64Array]:
        """Mean density and coverage over classes that all count the same, [M] each."""
        return self.density.mean(axis=0), self.coverage.mean(axis=0)


class Sums:
    """Counts of the real set with every member, and overlaps and shares of pairs of members.

    ``directed[g,h]`` is d of the balls of g and the points of h.

    Args:
        size: int64 [sets, classes], points of every set; the real set is the first.
        k: neighbour that sets the radius.
        share: part of the balls between members that is counted.
    """

    def __init__(self, size: Int64Array, k: int, share: float = 1.0) -> None:
        self._size, self._k, self._share = size, k, share
        sets, classes = size.shape
        self._points: Int64Array = size.sum(axis=1)
        # Classes count by their share of the real points, whatever a member makes of each.
        self._weights: Float64Array = size[0] / self._points[0]
        width = (int(self._points[0]) + 7) // 8
        self._real: Int64Array = np.zeros((2, sets, classes), np.int64)  # pairs, balls reached
        self._directed: Float64Array = np.zeros((sets, sets))
        self._spread = np.zeros((sets, sets) if share < 1 else 0, np.float32)
        self._covered: npt.NDArray[np.int32] = np.zeros((sets, sets), np.int32)
        self._masks: UInt8Array = np.zeros((2, sets, width), np.uint8)

    def add(self, block: BlockScores) -> None:
        """Add the counts of a block."""
        a, b = np.nonzero(block.wanted)
        for role in (0, 1):
            sides = block.rows[a], block.columns[b]
            balls, points = sides if role == 0 else sides[::-1]
            pairs, reached = block.pairs[a, b, role], block.reached[a, b, role]
            self._covered[balls, points] = block.covered[a, b, role]
            if block.squares.size:
                # How many balls of a class are drawn follows from its size alone, in every pair.
                of = self._size[balls]
                drawn = np.vectorize(counted, otypes=[np.int64])(of, self._share)
                unit = of / (self._k * self._size[points])
                squares = block.squares[a, b, role]
                d, spread = estimate(pairs, squares, reached, unit, drawn, of, self._weights)
                self._spread[balls, points] = spread
            else:
                d = harmonic_mean(*self._measures(balls, points, pairs, reached))
            self._directed[balls, points] = d
        if block.masks.size:
            self._masks[:, block.columns] = block.masks
            self._real[:, block.columns] = block.pairs[0, :, 0], block.reached[0, :, 0]

    def _measures(
        self, balls: Int64Array, points: Int64Array, pairs: Int64Array, reached: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Density and coverage of pairs of sets, [pairs] each."""
        size = self._size
        density = (pairs / (self._k * size[points])) @ self._weights
        return density, (reached / size[balls]) @ self._weights

    def scores(self, names: tuple[str, ...], extractor: str) -> PoolScores:
        """Densities, masks and overlaps, every class with its share of the real points."""
        members = np.arange(1, len(self._points))
        density, coverage = self._measures(np.zeros_like(members), members, *self._real[:, 1:])
        directed = self._directed[1:, 1:]
        np.fill_diagonal(directed, np.nan)
        return PoolScores(
            names,
            density=density,
            coverage=coverage,
            masks=self._masks[0, 1:],
            directed=directed,
            k=self._k,
            n_real=int(self._points[0]),
            counts=self._points[1:],
            extractor=extractor,
            spread=self._spread[1:, 1:] if self._share < 1 else None,
        )

    def by_class(self, scored: BoolArray) -> ClassScores:
        """Density and coverage within each class, nan for members not ``scored`` (bool [M])."""
        pairs, reached = self._real[:, 1:]
        density = pairs / (self._k * self._size[1:])
        coverage = reached / self._size[0]
        density[~scored] = coverage[~scored] = np.nan
        return ClassScores(self._weights, density.T, coverage.T)

    def precision_recall(
        self, names: tuple[str, ...], scored: BoolArray
    ) -> tuple[PairPrecision, Float64Array]:
        """Precision of and between members, and their recall [M].

        Args:
            names: of the members.
            scored: bool [sets, sets], pairs that were counted; others are nan, and those of members
                where balls were drawn.
        """
        precision = self._covered / self._points  # share of the points of h inside some ball of g
        if self._share < 1:  # a point in no counted ball may lie in one that was not drawn
            precision[1:, 1:] = np.nan
        precision[~(scored | scored.T)] = np.nan
        np.fill_diagonal(precision, 1)
        masks, points = self._masks[1, 1:], int(self._points[0])
        pairs = PairPrecision(names, precision[0, 1:], masks, precision[1:, 1:], points)
        return pairs, precision[1:, 0]


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


def check_rounds(rounds: int, members: int, points: int, memory_bytes: int) -> None:
    """Refuse numbers of rounds that cannot be kept.

    Raises:
        InputError: negative, or results above a gigabyte or a quarter of the memory.
    """
    if not 0 <= rounds <= _MOST_ROUNDS:
        raise InputError(f"{rounds} resamples: use 0 for none, or 200; {_MOST_ROUNDS:,} at most")
    per_round = members * (4 * members + points // 8)
    most = min(_LARGEST_BYTES, memory_bytes // 4)
    if rounds * per_round > most:
        raise InputError(
            f"{rounds} resamples of {members} members would take "
            f"{rounds * per_round / 2**30:.2g} GB, and {most / 2**30:.2g} GB may be taken (a "
            "quarter of --memory, at most 1): use at "
            f"most {most // per_round}, or more memory"
        )


class ResampledSums:
    """Scores of every round, gathered from the blocks of a pool.

    Args:
        names: of the sets, the real first.
        sizes: points of every set.
        k: neighbour that sets the radius.
        rounds: how many, checked (:func:`check_rounds`).
    """

    def __init__(self, names: tuple[str, ...], sizes: Int64Array, k: int, rounds: int) -> None:
        members, width = len(names) - 1, (int(sizes[0]) + 7) // 8
        self._whole = sizes
        self._kept = np.array([kept_count(int(size)) for size in sizes])
        self._k = k
        self._rounds = rounds
        self._real = names[0]
        self._density = np.zeros((rounds, members))
        self._masks = np.zeros((rounds, members, width), np.uint8)
        self._directed = np.full((rounds, members, members), np.nan, np.float32)

    def add(self, block: BlockScores) -> None:
        """Add the counts of a block."""
        a, b = np.nonzero(block.wanted)
        g, h = block.rows[a], block.columns[b]
        for role, (balls, points) in enumerate(((g, h), (h, g))):
            density, d = self._measures(balls, points, block.resampled[a, b, role])
            of_real = (balls == 0) & (points > 0)
            self._density[:, points[of_real] - 1] = density[of_real].T
            between = (balls > 0) & (points > 0)
            self._directed[:, balls[between] - 1, points[between] - 1] = d[between].T
        if block.resampled_masks.size:
            scored = block.wanted[0]
            masks = block.resampled_masks[scored].transpose(1, 0, 2)
            self._masks[:, block.columns[scored] - 1] = masks

    def _measures(
        self, balls: Int64Array, points: Int64Array, counts: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Density and d of pairs of sets, [pairs, rounds]; fewer balls hold fewer points."""
        kept = self._kept
        scale = self._whole[balls] / (kept[balls] * self._k * kept[points])
        density = np.asarray(counts[:, 0] * scale[:, None], np.float64)
        return density, harmonic_mean(density, counts[:, 1] / kept[balls][:, None])

    def result(self) -> Resamples:
        """All rounds."""
        points = kept_points(self._real, int(self._whole[0]), self._rounds)
        kept = np.packbits(np.ascontiguousarray(points.T), axis=1)
        return Resamples(kept, self._masks, self._density, self._directed)
