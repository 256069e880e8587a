"""One classifier: train on a strategy's images, choose by validation, report on the test split."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch.nn import functional

from ensgan.downstream.drawing import Pools, epoch_counts, make_drawing
from ensgan.downstream.pool import SampleBank, label_outside
from ensgan.downstream.statistics import (
    balanced_accuracy,
    classification_metrics,
    resampled_auc,
)
from ensgan.downstream.strategy import NO_WEIGHTS, Strategy
from ensgan.downstream.together import Together, Training
from ensgan.embedding.fit import FitResult, FitSettings, class_weights, forward, labelled
from ensgan.embedding.resnet import resnet18
from ensgan.errors import DataError, InputError, TrainingError, problem_of
from ensgan.precision import Wanted, arithmetic, precision_problems, resolved_precision
from ensgan.types import Dataset


@dataclass(frozen=True)
class ClassifierSettings(FitSettings):
    """ResNet-18 (3×3 stem, no max-pooling) and its training.

    Attributes:
        width: channels of the first stage; 64 is ResNet-18, less is a narrower network.
        images_per_epoch: images per epoch; None means as many as the real training split has.
        labels: class proportions of the synthetic images: those of the training split, or uniform.
        positive: class that sensitivity, precision, specificity and F1 speak of when there are
            two classes.
        memory_mb: most memory for cached synthetic images, in MiB; above it every member keeps an
            equal share of its images.
        device: e.g. ``"cpu"`` or ``"cuda:0"``; ``"auto"``: a GPU where the work is done, if there
            is one (several classifiers may share it).
        precision: ``"auto"`` is bfloat16 where the device computes faster in it, else float32.
    """

    width: Annotated[int, Field(ge=1)] = 64
    images_per_epoch: Annotated[int | None, Field(ge=2)] = None
    labels: Literal["training", "uniform"] = "training"
    positive: Literal[0, 1] = 1
    memory_mb: Annotated[int, Field(ge=1)] = 2048
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "cpu"
    precision: Wanted = field(default="auto", repr=False)

    def on_device(self) -> ClassifierSettings:
        """The same with device and precision ``auto`` resolved in this process.

        Raises:
            InputError: a GPU was asked for and this process sees none, or it does not compute in
                that precision.
        """
        if self.device == "auto":
            device_here = "cuda" if torch.cuda.is_available() else "cpu"
            return replace(self, device=device_here).on_device()
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(f"device '{self.device}': no GPU is seen here; use cpu or auto")
        number = int(self.device.partition(":")[2] or 0)
        if number and number >= torch.cuda.device_count():
            raise InputError(
                f"device '{self.device}': {torch.cuda.device_count()} GPU is seen here, from "
                "cuda:0 on (a task on Ray sees its own alone); use cuda or auto"
            )
        device = torch.device(self.device)
        for problem in precision_problems(self.precision, device):
            raise InputError(problem)
        return replace(self, precision=resolved_precision(self.precision, device))

    def images(self, n_train: int) -> int:
        """Images that a training sees at most, of data with ``n_train`` training images."""
        return self.epochs * (self.images_per_epoch or n_train)

    def longer(self, times: int) -> ClassifierSettings:
        """The same with so many times the epochs, the learning rate's schedule stretched alike."""
        paces = ("epochs", "plateau", "warmup", "patience")
        return replace(self, **{name: times * getattr(self, name) for name in paces})


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
        resampled_auc: on bootstraps of the test split, see :func:`resampled_auc`; empty in results
            of earlier versions.
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
    resampled_auc: tuple[float, ...] = ()

    @property
    def val_score(self) -> float:
        """Balanced accuracy on the validation split: what the rule ``downstream`` compares."""
        return balanced_accuracy(self.val_metrics)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-able values."""
        return {**asdict(self), "val_score": self.val_score, **NO_WEIGHTS}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RepeatResult:
        """Read what :meth:`to_json` wrote.

        Raises:
            DataError: a field is missing or has the wrong form.
        """
        try:
            return _RESULT.validate_python(value)
        except ValidationError as error:
            problem = problem_of(error.errors()[0])
            raise DataError(f"this is not a downstream result: {problem}") from error


_RESULT = TypeAdapter(RepeatResult)


@dataclass(frozen=True)
class Repeat:
    """One classifier to train.

    Attributes:
        strategy: what to train on.
        number: of the repeat, from 0.
        bank: gives the members' images.
    """

    strategy: Strategy
    number: int
    bank: SampleBank


def run_repeat(
    strategy: Strategy,
    repeat: int,
    *,
    dataset: Dataset,
    bank: SampleBank,
    settings: ClassifierSettings,
    seed: int,
) -> RepeatResult:
    """Train one classifier and test it; see :func:`run_repeats`."""
    one = Repeat(strategy, repeat, bank)
    return run_repeats([one], dataset=dataset, settings=settings, seed=seed)[0]


def run_repeats(
    repeats: Sequence[Repeat], *, dataset: Dataset, settings: ClassifierSettings, seed: int
) -> list[RepeatResult]:
    """Train classifiers and test them.

    The validation split decides the learning rate, the stop and the weights kept; the test split
    is only looked at afterwards. Initial weights and drawing depend on (seed, repeat), not on the
    strategy, so repeats are paired.

    Several on a GPU are trained together, those that see equally many images in an epoch: to
    rounding what each would be alone. On the CPU that would take longer.

    Args:
        repeats: what to train.
        dataset: the real data.
        settings: network and training.
        seed: of the whole evaluation.

    Raises:
        DataError: a split lacks a class, or members do not fit the data.
        InputError: an unknown member.
        TrainingError: a loss became non-finite, or a GPU ran out of memory.
    """
    check_dataset(dataset)
    begin, settings = time.perf_counter(), settings.on_device()
    assert settings.precision != "auto"
    results: dict[int, RepeatResult] = {}
    with arithmetic(settings.precision, torch.device(settings.device)):
        for group in _groups(repeats, dataset, settings):
            trained = _train([repeats[index] for index in group], dataset, settings, seed)
            results.update(zip(group, trained, strict=True))
    seconds = (time.perf_counter() - begin) / len(repeats)
    return [replace(results[index], seconds=seconds) for index in range(len(repeats))]


def _train(
    repeats: Sequence[Repeat], dataset: Dataset, settings: ClassifierSettings, seed: int
) -> list[RepeatResult]:
    """Train some as one batch of networks, or one by itself, and test them."""
    pools: Pools = {}  # once for all that train on the same images
    trainings = [_begun(repeat, dataset, settings, seed, pools) for repeat in repeats]
    validation = labelled(dataset.val, settings.device)
    try:
        if len(repeats) == 1:
            fits = [trainings[0].alone(validation, settings)]
        else:
            fits = Together(trainings, validation, settings).fit()
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(
            f"the GPU ran out of memory with {len(repeats)} classifiers: lower batch or width, "
            "or give each task a larger share of a GPU"
        ) from error
    done = zip(repeats, trainings, fits, strict=True)
    return [_tested(*each, dataset, settings) for each in done]


def _groups(
    repeats: Sequence[Repeat], dataset: Dataset, settings: ClassifierSettings
) -> list[list[int]]:
    """Which of them are trained together."""
    if settings.device == "cpu":
        return [[index] for index in range(len(repeats))]
    by_images: dict[int, list[int]] = {}
    for index, repeat in enumerate(repeats):
        images = int(sum(part.sum() for part in epoch_counts(repeat.strategy, dataset, settings)))
        by_images.setdefault(images, []).append(index)
    return list(by_images.values())


def _begun(
    of: Repeat, dataset: Dataset, settings: ClassifierSettings, seed: int, pools: Pools
) -> Training:
    """The network of a repeat with its images."""
    drawing = make_drawing(of.strategy, of.number, dataset, of.bank, settings, seed, pools)
    weights = class_weights(torch.from_numpy(drawing.trained_counts)).to(settings.device)
    network = resnet18(
        channels=dataset.shape.channels,
        classes=dataset.num_classes,
        width=settings.width,
        seed=int(np.random.SeedSequence([seed, of.number]).generate_state(1)[0]),
    )
    return Training(network.to(settings.device), drawing, weights)


def _tested(
    of: Repeat,
    training: Training,
    fitted: FitResult,
    dataset: Dataset,
    settings: ClassifierSettings,
) -> RepeatResult:
    """What a trained classifier achieves; the caller fills in the time."""
    test = labelled(dataset.test, settings.device)
    test_scores = forward(training.network, test.images, settings.precision)
    tested, validated = (
        functional.softmax(scores.double(), 1).cpu().numpy()
        for scores in (test_scores, fitted.val_scores)
    )
    return RepeatResult(
        of.strategy,
        of.number,
        classification_metrics(dataset.test.labels, tested, settings.positive),
        classification_metrics(dataset.val.labels, validated, settings.positive),
        fitted.val_loss,
        fitted.epochs,
        fitted.best_epoch,
        fitted.images,
        0.0,
        tuple(training.weights.tolist()),
        resampled_auc(dataset.test.labels, tested),
    )


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
        labels = getattr(dataset, split_name).labels
        wrong = label_outside(labels, dataset)
        if wrong is not None:
            raise DataError(
                f"the {split_name} split of {dataset.name} has the label {wrong}, but its "
                f"classes are 0…{dataset.num_classes - 1}"
            )
        counts = np.bincount(labels, minlength=dataset.num_classes)
        absent = [dataset.class_names[index] for index in np.flatnonzero(counts == 0)]
        if absent:
            raise DataError(
                f"the {split_name} split of {dataset.name} has no image of class "
                f"{', '.join(absent)}: use splits that hold every class"
            )
