"""Metrics of a classifier on one split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ensgan.types import Float64Array, Int64Array

METRICS = (
    *("accuracy", "recall", "precision", "specificity", "f1", "g_mean", "auc"),
    *("ece", "brier"),
)
BINS = 15
"""Bins of the calibration error, of equal width."""


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
        ``METRICS``, and of every class its recall as ``accuracy_class_0``, …, its precision, F1
        and area under the curve against the rest as ``precision_class_0``, ….
        ``g_mean`` is √(sensitivity·specificity), for more classes the geometric mean of the
        recalls; ``auc`` is one-against-rest and unweighted for more classes; ``ece`` is the
        expected calibration error of the class called (Guo et al. 2017, 15 bins); ``brier`` is
        half the mean squared distance of probabilities and label (Brier 1950), which for two
        classes is the squared error of one of them. Of these two smaller is better.
    """
    # Late: the package must import without scikit-learn.
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


def _calibration_error(confidence: Float64Array, right: npt.NDArray[np.bool_]) -> float:
    """Mean gap between confidence and accuracy over bins of confidence, weighted by their size."""
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def balanced_accuracy(values: Mapping[str, float]) -> float:
    """Mean recall over the classes, from what :func:`classification_metrics` gave."""
    recalls = [value for name, value in values.items() if name.startswith("accuracy_class_")]
    return float(np.mean(recalls))
