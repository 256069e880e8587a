"""Does a score of an ensemble predict what its images teach? Rank correlation with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensgan.errors import InputError
from ensgan.types import Float64Array

ROUNDS = 2000


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation.

    Attributes:
        rho: in [-1, 1]; None with fewer than three pairs or without spread.
        low, high: 95 % percentile interval over resamples of the pairs; None as ``rho``.
        pairs: number of pairs.
    """

    rho: float | None
    low: float | None
    high: float | None
    pairs: int

    def to_json(self) -> dict[str, Any]:
        """The correlation as JSON-able values."""
        return asdict(self)


def rank_correlation(
    first: Sequence[float], second: Sequence[float], *, rounds: int = ROUNDS, seed: int = 0
) -> RankCorrelation:
    """Spearman's rho of pairs, ties at their mean rank, and its bootstrap interval.

    The interval is over the ensembles that were evaluated: pairs are drawn with replacement
    ``rounds`` times; resamples without spread are left out.

    Args:
        first, second: the pairs, finite numbers.
        rounds: resamples.
        seed: of the resampling.

    Raises:
        InputError: different lengths, or a number that is not finite.
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.shape != y.shape or x.ndim != 1 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError(f"rank correlation needs pairs of finite numbers: {len(x)} and {len(y)}")
    rho = _spearman(x[None], y[None])
    if len(x) < 3 or np.isnan(rho[0]):
        return RankCorrelation(None, None, None, len(x))
    rows = np.random.default_rng(seed).integers(0, len(x), (rounds, len(x)))
    resampled = _spearman(x[rows], y[rows])
    low, high = np.quantile(resampled[~np.isnan(resampled)], [0.025, 0.975])
    return RankCorrelation(float(rho[0]), float(low), float(high), len(x))


def _spearman(x: Float64Array, y: Float64Array) -> Float64Array:
    """Row-wise correlation of ranks, nan where a row has no spread."""
    # Late: the package must import without scipy.
    from scipy.stats import rankdata

    a, b = rankdata(x, axis=1), rankdata(y, axis=1)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho: Float64Array = np.where(scale > 0, (a * b).sum(axis=1) / scale, np.nan)
    return rho
