"""Metrics of a classifier on one split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ensgan.types import Float64Array, Int64Array

METRICS = ("accuracy", "recall", "precision", "specificity", "f1", "g_mean", "auc")


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
        ``METRICS`` and the recall of every class as ``accuracy_class_0``, ….
        ``g_mean`` is √(sensitivity·specificity), for more classes the geometric mean of the
        recalls; ``auc`` is one-against-rest and unweighted for more classes.
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
    if classes == 2:
        auc = roc_auc_score(labels == positive, probabilities[:, positive])
        chosen = np.array([positive])
    else:
        auc = roc_auc_score(labels, probabilities, multi_class="ovr", labels=range(classes))
        chosen = np.arange(classes)
    values = {
        "accuracy": hits.sum() / confusion.sum(),
        "recall": recall[chosen].mean(),
        "precision": precision[chosen].mean(),
        "specificity": specificity[chosen].mean(),
        "f1": f1[chosen].mean(),
        "g_mean": recall.prod() ** (1 / classes),
        "auc": auc,
    }
    values |= {f"accuracy_class_{index}": value for index, value in enumerate(recall)}
    return {name: float(value) for name, value in values.items()}


def balanced_accuracy(values: Mapping[str, float]) -> float:
    """Mean recall over the classes, from what :func:`classification_metrics` gave."""
    recalls = [value for name, value in values.items() if name.startswith("accuracy_class_")]
    return float(np.mean(recalls))
