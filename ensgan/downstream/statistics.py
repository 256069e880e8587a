"""What is measured: metrics of a classifier, statistics over repeats and over ensembles.

And in one sentence, what a whole table says of G*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ensgan.errors import InputError
from ensgan.types import Float64Array, Int64Array

# scikit-learn and scipy are imported where they are used: strategies and help texts need neither.

RANKED = "auc"
"""The metric that every table, plot and verdict ranks by; of several classes their mean."""
_WORDS = {"real": "real images", "all": "the whole pool", "best-single": "the best single one"}
BINS = 15
"""Bins of the calibration error, of equal width."""
RESAMPLES = 200
"""Bootstraps of the test images: enough for the ends of a 95 % interval to two digits."""


def import_libraries() -> None:
    """Import scikit-learn now.

    For a process with threads that import MLflow or matplotlib meanwhile: Python ends an import
    with a deadlock error when two threads import the same packages in circles.
    """
    import sklearn.metrics  # noqa: F401


def classification_metrics(
    labels: Int64Array, probabilities: Float64Array, positive: int = 1
) -> dict[str, float]:
    """The metrics of the downstream table, each in [0, 1].

    Args:
        labels: int64 [n], every class present.
        probabilities: float [n, classes], rows sum to 1.
        positive: with two classes, the one that recall (sensitivity), precision, specificity and
            F1 speak of. With more classes these are unweighted means over the classes.

    Returns:
        By name ``accuracy``, ``recall``, ``precision``, ``specificity``, ``f1``, ``g_mean``,
        ``auc``, ``ece`` and ``brier``, and of every class its recall as ``accuracy_class_0``, …,
        its precision, F1 and area under the curve against the rest as ``precision_class_0``, ….
        ``g_mean`` is √(sensitivity·specificity), for more classes the geometric mean of the
        recalls; ``auc`` is one-against-rest and unweighted for more classes; ``ece`` is the
        expected calibration error of the class called (Guo et al. 2017, 15 bins); ``brier`` is
        half the mean squared distance of probabilities and label (Brier 1950), which for two
        classes is the squared error of one of them. Of these two smaller is better.
    """
    from sklearn.metrics import confusion_matrix, roc_auc_score

    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted, labels=range(classes)).astype(np.float64)
    hits, actual, called = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    recall = hits / actual
    precision = np.divide(hits, called, out=np.zeros(classes), where=called > 0)
    negatives = confusion.sum() - actual
    specificity = (negatives - called + hits) / negatives
    f1 = 2 * hits / (actual + called)
    areas = np.array([roc_auc_score(labels == c, probabilities[:, c]) for c in range(classes)])
    chosen = np.array([positive]) if classes == 2 else np.arange(classes)
    errors = probabilities - np.eye(classes)[labels]
    values = {
        "accuracy": hits.sum() / confusion.sum(),
        "recall": recall[chosen].mean(),
        "precision": precision[chosen].mean(),
        "specificity": specificity[chosen].mean(),
        "f1": f1[chosen].mean(),
        "g_mean": recall.prod() ** (1 / classes),
        "auc": areas[chosen].mean(),
        "ece": _calibration_error(probabilities.max(axis=1), predicted == labels),
        "brier": 0.5 * (errors**2).sum(axis=1).mean(),
    }
    by_class = {"accuracy": recall, "precision": precision, "f1": f1, "auc": areas}
    for name, numbers in by_class.items():
        values |= {f"{name}_class_{index}": value for index, value in enumerate(numbers)}
    return {name: float(value) for name, value in values.items()}


def resampled_auc(labels: Int64Array, probabilities: Float64Array) -> tuple[float, ...]:
    """The AUC that other test images of the same kind might have given: RESAMPLES of them.

    Images are drawn with replacement within each class. The draws depend on the labels alone, so
    those of two classifiers tested on one split are paired. Arguments as
    :func:`classification_metrics`, whose ``auc`` this is over the images as they are.
    """
    rng, classes = np.random.default_rng(len(labels)), probabilities.shape[1]
    places = [np.flatnonzero(labels == label) for label in range(classes)]
    # With two classes, both have the same area: one is enough.
    ranked = [np.unique(column, return_inverse=True)[1] for column in probabilities.T]
    ranked = ranked[1:] if classes == 2 else ranked
    scores = []
    for _ in range(RESAMPLES):
        drawn = [rng.choice(rows, len(rows)) for rows in places]
        areas = []
        for label, ranks in enumerate(ranked, start=int(classes == 2)):
            size = int(ranks.max()) + 1
            of_class = np.bincount(ranks[drawn[label]], minlength=size)
            rest = np.concatenate(drawn[:label] + drawn[label + 1 :])
            others = np.bincount(ranks[rest], minlength=size)
            beaten = np.cumsum(others) - others / 2  # of equal probabilities a half
            areas.append(of_class @ beaten / (len(drawn[label]) * len(rest)))
        scores.append(round(float(np.mean(areas)), 6))
    return tuple(scores)


def _calibration_error(confidence: Float64Array, right: npt.NDArray[np.bool_]) -> float:
    """Mean gap between confidence and accuracy over bins of confidence, weighted by their size."""
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def balanced_accuracy(values: Mapping[str, float]) -> float:
    """Mean recall over the classes, from what :func:`classification_metrics` gave."""
    recalls = [value for name, value in values.items() if name.startswith("accuracy_class_")]
    return float(np.mean(recalls))


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


def rank_correlation(
    first: Sequence[float], second: Sequence[float], *, rounds: int = 2000, seed: int = 0
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
    return RankCorrelation(float(rho[0]), *middle(resampled[~np.isnan(resampled)]), len(x))


def middle(values: Float64Array) -> tuple[float, float]:
    """The ends of the middle 95 % of resamples."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _spearman(x: Float64Array, y: Float64Array) -> Float64Array:
    """Row-wise correlation of ranks, nan where a row has no spread."""
    from scipy.stats import rankdata

    a, b = rankdata(x, axis=1), rankdata(y, axis=1)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho: Float64Array = np.where(scale > 0, (a * b).sum(axis=1) / scale, np.nan)
    return rho


def paired_t_test(differences: Float64Array) -> float | None:
    """Two-sided p of the mean difference being 0; None with fewer than two or no spread."""
    from scipy.stats import t as student

    n = len(differences)
    if n < 2 or (sd := float(differences.std(ddof=1))) <= 1e-12:
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


def mean_interval(values: Float64Array) -> tuple[float | None, float | None]:
    """95 % interval of the mean of values in [0, 1] by Student's t on the logit scale.

    The standard error of the mean m becomes that of logit(m) by the delta method, se/(m·(1 − m)),
    and the interval is turned back: it cannot leave [0, 1], and agrees with the usual one where
    the spread is small.

    Args:
        values: one per repeat.

    Returns:
        Low and high; both None with fewer than two values.
    """
    from scipy.special import expit, logit
    from scipy.stats import t as student

    n, mean = len(values), float(values.mean())
    if n < 2:
        return None, None
    error = float(values.std(ddof=1)) / math.sqrt(n)
    if error <= 1e-12 or not 0 < mean < 1:
        return mean, mean
    half = float(student.ppf(0.975, n - 1)) * error / (mean * (1 - mean))
    return float(expit(logit(mean) - half)), float(expit(logit(mean) + half))


def headline(table: Mapping[str, Any] | None, chosen: int, pool: int) -> str:
    """What G* is and how it compares.

    Args:
        table: as :meth:`DownstreamTable.to_json` gives it; None without one.
        chosen: members of G*.
        pool: members of the pool.

    Returns:
        one sentence without a full stop.
    """
    what, worth = f"G* is {chosen} of {pool} generators", how_good(table)
    return f"{what}: {worth}" if worth else f"{what}; no classifier was trained on its images"


def how_good(table: Mapping[str, Any] | None, *, intervals: bool = False) -> str:
    """What classifiers trained on the images of G* reach, and on what else, the best first.

    Args:
        table: as :meth:`DownstreamTable.to_json` gives it; None without one.
        intervals: of 95 % too, and of those strategies alone that are known by words.

    Returns:
        a sentence without a full stop; "" where no classifier was trained on them.
    """
    rows = {row["strategy"]: row["metrics"][RANKED] for row in (table or {}).get("strategies", ())}
    selected = rows.pop((table or {}).get("reference"), None)
    if selected is None:
        return ""

    def shown(area: Mapping[str, Any]) -> str:
        told = intervals and area["low"] is not None
        span = f" (95 % interval {area['low']:.3f} … {area['high']:.3f})" if told else ""
        return f"{area['mean']:.3f}{span}"

    order = sorted(rows, key=lambda name: -rows[name]["mean"])
    compared = ", ".join(
        f"{shown(rows[name])} from {_WORDS.get(name, name)}"
        for name in order
        if name in _WORDS or not intervals
    )
    return (
        f"a classifier trained on its images alone reaches an AUC of {shown(selected)} on real "
        f"test images{', against ' if compared else ''}{compared}"
    )
