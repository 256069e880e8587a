"""Statistics over repeats and over ensembles: intervals, paired tests, rank correlation."""

from __future__ import annotations

import math
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


def paired_t_test(differences: Float64Array) -> float | None:
    """Two-sided p of the mean difference being 0; None with fewer than two or no spread."""
    # Late: the package must import without scipy.
    from scipy.stats import t as student

    n = len(differences)
    if n < 2:
        return None
    sd = float(differences.std(ddof=1))
    if sd <= 1e-12:
        return None
    statistic = float(differences.mean()) / (sd / math.sqrt(n))
    return float(2 * student.sf(abs(statistic), n - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the i-th smallest of m times m−i+1, made monotone, at most 1."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected


def mean_interval(values: Float64Array) -> tuple[float, float] | None:
    """95 % interval of the mean of values in [0, 1] by Student's t on the logit scale.

    The standard error of the mean m becomes that of logit(m) by the delta method, se/(m·(1 − m)),
    and the interval is turned back: it cannot leave [0, 1], and agrees with the usual one where
    the spread is small.

    Args:
        values: one per repeat.

    Returns:
        Low and high; None with fewer than two values.
    """
    # Late: the package must import without scipy.
    from scipy.special import expit, logit
    from scipy.stats import t as student

    n, mean = len(values), float(values.mean())
    if n < 2:
        return None
    error = float(values.std(ddof=1)) / math.sqrt(n)
    if error <= 1e-12 or not 0 < mean < 1:
        return mean, mean
    half = float(student.ppf(0.975, n - 1)) * error / (mean * (1 - mean))
    return float(expit(logit(mean) - half)), float(expit(logit(mean) + half))
