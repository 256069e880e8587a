"""One classifier: train on a strategy's images, choose by validation, report on the test split."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ensgan.downstream.drawing import Drawing, make_drawing
from ensgan.downstream.dynamic import MemberFeedback
from ensgan.downstream.metrics import balanced_accuracy, classification_metrics
from ensgan.downstream.pool import SampleBank
from ensgan.downstream.settings import ClassifierSettings
from ensgan.downstream.strategy import Strategy
from ensgan.downstream.validated import ValidationResult
from ensgan.embedding.fit import FitResult, class_weights, fit, forward, labelled
from ensgan.embedding.resnet import ResNet, resnet18
from ensgan.errors import DataError
from ensgan.types import Dataset, Samples


@dataclass(frozen=True)
class RepeatResult:
    """What one trained classifier achieved.

    Attributes:
        strategy: what it was trained on.
        repeat: number of the repeat; equal repeats of different strategies share their seeds.
        metrics: on the test split, see :func:`classification_metrics`.
        val_metrics: the same on the validation split.
        val_loss: lowest validation loss, where the weights were kept.
        epochs, best_epoch: epochs trained, and the one whose weights were kept (from 1).
        images: training images seen.
        seconds: wall time.
        class_weights: of the loss, from the labels trained on.
        final_weights: chances of the members at the end, for ``dynamic`` only.
    """

    strategy: Strategy
    repeat: int
    metrics: Mapping[str, float]
    val_metrics: Mapping[str, float]
    val_loss: float
    epochs: int
    best_epoch: int
    images: int
    seconds: float
    class_weights: tuple[float, ...]
    final_weights: tuple[float, ...] | None = None

    @property
    def val_score(self) -> float:
        """Balanced accuracy on the validation split: what the rule ``downstream`` compares."""
        return balanced_accuracy(self.val_metrics)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-able values."""
        return {**asdict(self), "val_score": self.val_score}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RepeatResult:
        """Read what :meth:`to_json` wrote.

        Raises:
            DataError: a field is missing or has the wrong form.
        """
        try:
            final = value["final_weights"]
            return cls(
                Strategy.from_json(value["strategy"]),
                int(value["repeat"]),
                {name: float(number) for name, number in value["metrics"].items()},
                {name: float(number) for name, number in value["val_metrics"].items()},
                float(value["val_loss"]),
                int(value["epochs"]),
                int(value["best_epoch"]),
                int(value["images"]),
                float(value["seconds"]),
                tuple(value["class_weights"]),
                None if final is None else tuple(final),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"this is not a downstream result: {error!r}") from error


def run_repeat(
    strategy: Strategy,
    repeat: int,
    *,
    dataset: Dataset,
    bank: SampleBank,
    settings: ClassifierSettings,
    seed: int,
) -> RepeatResult:
    """Train one classifier and test it.

    The validation split decides the learning rate, the stop and the weights kept (and, for
    ``dynamic``, the members' chances); the test split is only looked at afterwards. Initial
    weights and drawing depend on (seed, repeat), not on the strategy, so repeats are paired.

    Args:
        strategy: what to train on.
        repeat: number of the repeat, from 0.
        dataset: the real data.
        bank: gives the members' images.
        settings: network and training.
        seed: of the whole evaluation.

    Raises:
        DataError: a split lacks a class, or members do not fit the data.
        InputError: an unknown member.
        TrainingError: the loss became non-finite.
    """
    check_dataset(dataset)
    begin = time.perf_counter()
    trained = _train(strategy, repeat, dataset, bank, settings, seed)
    fitted, final = trained.fitted, trained.drawing.feedback
    test = labelled(dataset.test, trained.settings.device)
    return RepeatResult(
        strategy,
        repeat,
        _measure(forward(trained.network, test.images)[1], dataset.test, settings),
        _measure(fitted.val_scores, dataset.val, settings),
        fitted.val_loss,
        fitted.epochs,
        fitted.best_epoch,
        fitted.images,
        time.perf_counter() - begin,
        trained.class_weights,
        None if final is None else tuple(final.shares.tolist()),
    )


def validate_repeat(
    strategy: Strategy,
    repeat: int,
    *,
    dataset: Dataset,
    bank: SampleBank,
    settings: ClassifierSettings,
    seed: int,
) -> ValidationResult:
    """Train the classifier of :func:`run_repeat` and validate it; the test split is not touched.

    Args and errors are those of :func:`run_repeat`; a test split need not hold every class.
    """
    check_dataset(dataset, ("train", "val"))
    fitted = _train(strategy, repeat, dataset, bank, settings, seed).fitted
    metrics = _measure(fitted.val_scores, dataset.val, settings)
    return ValidationResult(metrics["auc"], fitted.val_loss)


@dataclass(frozen=True)
class _Trained:
    """A trained classifier and how it came about."""

    network: ResNet
    fitted: FitResult
    drawing: Drawing
    class_weights: tuple[float, ...]
    settings: ClassifierSettings


def _train(
    strategy: Strategy,
    repeat: int,
    dataset: Dataset,
    bank: SampleBank,
    settings: ClassifierSettings,
    seed: int,
) -> _Trained:
    """Train on the strategy's images, choose the weights by the validation split."""
    settings = settings.on_device()
    drawing = make_drawing(strategy, repeat, dataset, bank, settings, seed)
    weights = class_weights(torch.from_numpy(drawing.trained_counts)).to(settings.device)
    if strategy.kind == "dynamic":
        drawing.feedback = MemberFeedback(drawing.shares, weights)
    network = resnet18(
        channels=dataset.shape.channels,
        classes=dataset.num_classes,
        width=settings.width,
        seed=int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0]),
    )
    network.to(settings.device)
    validation = labelled(dataset.val, settings.device)
    fitted = fit(
        network, drawing, validation, weights=weights, settings=settings, feedback=drawing.feedback
    )
    return _Trained(network, fitted, drawing, tuple(weights.tolist()), settings)


def check_dataset(dataset: Dataset, splits: Sequence[str] = ("train", "val", "test")) -> None:
    """Refuse data on which the metrics would be undefined.

    Args:
        dataset: the real data.
        splits: those that will be used; the others are not looked at.

    Raises:
        DataError: fewer than two classes, a label outside them, or a split without a class.
    """
    if dataset.num_classes < 2:
        raise DataError(f"{dataset.name} has one class only: a classifier needs at least two")
    for split_name in splits:
        split: Samples = getattr(dataset, split_name)
        if len(split) and not 0 <= split.labels.min() <= split.labels.max() < dataset.num_classes:
            wrong = split.labels[(split.labels < 0) | (split.labels >= dataset.num_classes)]
            raise DataError(
                f"the {split_name} split of {dataset.name} has the label {wrong[0]}, but its "
                f"classes are 0…{dataset.num_classes - 1}"
            )
        counts = np.bincount(split.labels, minlength=dataset.num_classes)
        absent = [dataset.class_names[index] for index in np.flatnonzero(counts == 0)]
        if absent:
            raise DataError(
                f"the {split_name} split of {dataset.name} has no image of class "
                f"{', '.join(absent)}: use splits that hold every class"
            )


def _measure(scores: Tensor, split: Samples, settings: ClassifierSettings) -> dict[str, float]:
    probabilities = functional.softmax(scores.double(), 1).cpu().numpy()
    return classification_metrics(split.labels, probabilities, settings.positive)
