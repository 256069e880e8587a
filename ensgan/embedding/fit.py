"""Training a small classifier: one loop for the ``medical`` extractor and the downstream proof."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ensgan.embedding.resnet import ResNet
from ensgan.errors import TrainingError
from ensgan.inputs import check_fields
from ensgan.precision import Wanted, mixed
from ensgan.types import Samples

_EVALUATION_BATCH = 256


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast to train.

    Attributes:
        epochs: passes over the images, at most.
        batch: images per step; batch statistics need two.
        learning_rate: Adam's.
        plateau: epochs without a lower validation loss before the learning rate falls to a tenth.
        warmup: epochs before early stopping may act.
        patience: epochs without a lower validation loss that stop the training.
        precision: of forwards and gradients, decided: never "auto" in a training. Weights, losses
            and scores are float32 in any.

    Raises:
        InputError: with every value that is out of range.
    """

    epochs: Annotated[int, Field(ge=1)] = 100
    batch: Annotated[int, Field(ge=2)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    plateau: Annotated[int, Field(ge=1)] = 5
    warmup: Annotated[int, Field(ge=0)] = 25
    patience: Annotated[int, Field(ge=1)] = 25
    # Not in the text that content keys are made of: those who make keys add it where it counts.
    precision: Wanted = field(default="float32", repr=False)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Batch:
    """Images on the device, as stored.

    Attributes:
        images: uint8 [n,C,H,W].
        labels: int64 [n].
    """

    images: Tensor
    labels: Tensor

    def part(self, rows: slice | Tensor) -> Batch:
        """Some of the images."""
        return Batch(self.images[rows], self.labels[rows])


def labelled(samples: Samples, device: str) -> Batch:
    """Stored images on a device, grey and RGB alike as [n,C,H,W]."""
    images = torch.from_numpy(np.ascontiguousarray(samples.images))
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.ascontiguousarray(samples.labels))
    return Batch(images.to(device), labels.to(device))


@dataclass(frozen=True)
class FitResult:
    """How the training went; the network holds the best weights.

    Attributes:
        best_epoch: epoch (from 1) with the lowest validation loss.
        epochs: epochs trained.
        val_loss: the lowest validation loss.
        images: images seen in training.
        val_scores: class scores of the validation split with the best weights, float32 [n,K].
        history: (training loss, validation loss) of every epoch.
    """

    best_epoch: int
    epochs: int
    val_loss: float
    images: int
    val_scores: Tensor
    history: tuple[tuple[float, float], ...]


def network_input(images: Tensor) -> Tensor:
    """uint8 [n,C,H,W] → float32 in −1…1."""
    return images.to(torch.float32).mul_(2 / 255).sub_(1)


def class_weights(counts: Tensor) -> Tensor:
    """Weights that make every class count the same: n/(K·n_c), 0 for a class without images."""
    counts = counts.to(torch.float32)
    return torch.where(counts > 0, counts.sum() / (len(counts) * counts.clamp(min=1)), 0.0)


def fit(
    network: ResNet,
    draw: Callable[[int], Batch],
    validation: Batch,
    *,
    weights: Tensor,
    settings: FitSettings,
) -> FitResult:
    """Train with Adam on class-weighted cross-entropy; the validation loss decides.

    The learning rate falls to a tenth on a plateau, training stops early after the warm-up, and
    the weights of the best epoch are put back into ``network``.

    Args:
        network: on the device of the images.
        draw: epoch number (from 0) → the images of that epoch, in the order of training.
        validation: the validation split.
        weights: weight of each class in the loss, float32 [K].
        settings: length and pace.

    Raises:
        TrainingError: the loss became non-finite.
    """
    course = Course(network.parameters(), settings)
    kept, best_scores = _copy(network), torch.empty(0)
    while not course.is_over:
        data = draw(course.epochs)
        loss = _train_epoch(network, course.optimiser, data, weights, settings)
        scores = forward(network, validation.images, settings.precision)
        val_loss = float(functional.cross_entropy(scores, validation.labels, weights))
        if course.take(loss, val_loss, len(data.images)):
            kept, best_scores = _copy(network), scores
    network.load_state_dict(kept)
    return course.result(best_scores)


class Course:
    """How one training goes: learning rate, best epoch, early stop.

    Args:
        parameters: what is trained.
        settings: length and pace.

    Attributes:
        optimiser: Adam on the parameters.
        is_over: no further epoch is wanted.
    """

    def __init__(self, parameters: Iterable[Tensor], settings: FitSettings) -> None:
        self.optimiser = torch.optim.Adam(parameters, settings.learning_rate, foreach=True)
        self.is_over = False
        self._schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=0.1, patience=settings.plateau
        )
        self._settings, self._best, self._best_epoch, self._images = settings, math.inf, 0, 0
        self._history: list[tuple[float, float]] = []

    @property
    def epochs(self) -> int:
        """How many have passed."""
        return len(self._history)

    def take(self, loss: float, val_loss: float, images: int) -> bool:
        """Take in an epoch; whether it is the best so far.

        Raises:
            TrainingError: a loss is not finite.
        """
        settings, epoch = self._settings, self.epochs
        if not (math.isfinite(loss) and math.isfinite(val_loss)):
            raise TrainingError(
                f"the classifier's loss became non-finite in epoch {epoch + 1} (training {loss}, "
                f"validation {val_loss}): lower the learning rate ({settings.learning_rate})"
            )
        self._history.append((loss, val_loss))
        self._images += images
        is_best = val_loss < self._best
        if is_best:
            self._best, self._best_epoch = val_loss, epoch
        stale = epoch - self._best_epoch >= settings.patience
        self.is_over = self.epochs == settings.epochs or (self.epochs >= settings.warmup and stale)
        self._schedule.step(val_loss)
        return is_best

    def result(self, val_scores: Tensor) -> FitResult:
        """The training as it went, with the class scores of its best epoch."""
        best_epoch, epochs = self._best_epoch + 1, self.epochs
        return FitResult(
            best_epoch, epochs, self._best, self._images, val_scores, tuple(self._history)
        )


def _train_epoch(
    network: ResNet,
    optimiser: torch.optim.Optimizer,
    data: Batch,
    weights: Tensor,
    settings: FitSettings,
) -> float:
    """One pass; the mean loss. A last batch of a single image has no statistics: it is left out."""
    network.train()
    device, size, used = data.images.device, settings.batch, 0
    total = torch.zeros((), device=device)
    for start in range(0, len(data.images), size):
        batch = data.part(slice(start, start + size))
        if len(batch.images) < 2:
            break
        with mixed(settings.precision, device):
            scores = network(network_input(batch.images))
        loss = functional.cross_entropy(in_single(scores), batch.labels, weights)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        # Summed on the device: reading every loss would make the device wait for the host.
        total += loss.detach() * len(batch.images)
        used += len(batch.images)
    return float(total) / max(used, 1)


def forward(network: ResNet, images: Tensor, precision: Wanted = "float32") -> Tensor:
    """Class scores [n,K] of uint8 images [n,C,H,W], in evaluation mode."""
    network.eval()
    with torch.inference_mode(), mixed(precision, images.device):
        parts = [
            network.features(network_input(images[start : start + _EVALUATION_BATCH]))
            for start in range(0, len(images), _EVALUATION_BATCH)
        ]
        return in_single(network.fc(torch.cat(parts)))


def in_single(scores: Tensor) -> Tensor:
    """What came of bfloat16 as float32, in which losses are computed; others as they are."""
    return scores.float() if scores.dtype == torch.bfloat16 else scores


def _copy(network: ResNet) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
