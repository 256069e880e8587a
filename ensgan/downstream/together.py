"""Classifiers of one form trained as one batch of networks: each kernel serves all of them.

A small network leaves a card idle between kernels. Stacked, convolutions become grouped ones, and
every network keeps its own images, weights, learning rate and stopping point.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from ensgan.embedding.fit import (
    Batch,
    Course,
    FitResult,
    FitSettings,
    fit,
    in_single,
    network_input,
)
from ensgan.embedding.resnet import ResNet
from ensgan.precision import mixed

_EVALUATION_IMAGES = 2048  # times networks


@dataclass
class Training:
    """One network to train; arguments as of :func:`ensgan.embedding.fit.fit`.

    Attributes:
        network: gets the weights of its best epoch.
        draw: gives as many images in every epoch as those of the others do.
        weights: of the classes.
    """

    network: ResNet
    draw: Callable[[int], Batch]
    weights: Tensor
    course: Course = field(init=False)
    row: nn.Parameter = field(init=False)
    scores: Tensor = field(init=False)

    def alone(self, validation: Batch, settings: FitSettings) -> FitResult:
        """Train it by itself."""
        return fit(self.network, self.draw, validation, weights=self.weights, settings=settings)

    def begin(self, settings: FitSettings) -> None:
        """All parameters become one row, which the optimiser moves."""
        parts = [each.detach().flatten() for each in self.network.parameters()]
        self.row = nn.Parameter(torch.cat(parts))
        self.course = Course([self.row], settings)

    def keep(self, buffers: dict[str, Tensor], scores: Tensor) -> None:
        """Keep the present weights as the best so far."""
        parameters = list(self.network.parameters())
        pieces = torch.split(self.row.detach(), [one.numel() for one in parameters])
        with torch.no_grad():
            for parameter, piece in zip(parameters, pieces, strict=True):
                parameter.copy_(piece.view(parameter.shape))
            for name, buffer in self.network.named_buffers():
                buffer.copy_(buffers[name])
        self.scores = scores


class Together:
    """Networks trained side by side, each until its own training ends.

    Args:
        trainings: networks of one form, on one device.
        validation: the split that decides, as in :func:`ensgan.embedding.fit.fit`.
        settings: length and pace of each.
    """

    def __init__(
        self, trainings: Sequence[Training], validation: Batch, settings: FitSettings
    ) -> None:
        self._trainings, self._validation, self._settings = trainings, validation, settings
        self._form = copy.deepcopy(trainings[0].network)
        self._form.memory_format = torch.contiguous_format  # the only one that vmap knows
        self._shapes = {name: each.shape for name, each in self._form.named_parameters()}
        self._sizes = [shape.numel() for shape in self._shapes.values()]
        for training in trainings:
            training.begin(settings)

    def fit(self) -> list[FitResult]:
        """Train all of them; errors as :func:`ensgan.embedding.fit.fit`."""
        active = list(self._trainings)
        buffers_of = [dict(training.network.named_buffers()) for training in active]
        buffers = {name: torch.stack([one[name] for one in buffers_of]) for name in buffers_of[0]}
        while active:
            data = [training.draw(training.course.epochs) for training in active]
            losses = self._train_epoch(active, buffers, data).tolist()
            scores = self._validate(active, buffers)
            weights = torch.stack([training.weights for training in active])
            labels = self._validation.labels
            cross_entropy = vmap(functional.cross_entropy, in_dims=(0, None, 0))
            val_losses = cross_entropy(scores, labels, weights).tolist()
            for r, training in enumerate(active):
                if training.course.take(losses[r], val_losses[r], len(data[r].images)):
                    training.keep({name: buffer[r] for name, buffer in buffers.items()}, scores[r])
            # Those that have ended take no more part.
            left = [r for r, training in enumerate(active) if not training.course.is_over]
            active = [active[r] for r in left]
            buffers = {name: buffer[left] for name, buffer in buffers.items()}
        return [training.course.result(training.scores) for training in self._trainings]

    def _state(self, active: Sequence[Training], buffers: dict[str, Tensor]) -> dict[str, Tensor]:
        """Parameters and buffers with an axis for the networks."""
        # Cut in one go: the gradients of all pieces then become those of the rows in one kernel.
        pieces = torch.split(torch.stack([each.row for each in active]), self._sizes, dim=1)
        named = zip(self._shapes.items(), pieces, strict=True)
        return buffers | {name: piece.view(-1, *shape) for (name, shape), piece in named}

    def _run(self, state: dict[str, Tensor], x: Tensor, axis: int | None) -> Tensor:
        with mixed(self._settings.precision, x.device):
            return in_single(vmap(partial(functional_call, self._form), (0, axis))(state, x))

    def _train_epoch(
        self, active: Sequence[Training], buffers: dict[str, Tensor], data: Sequence[Batch]
    ) -> Tensor:
        """One pass over the images of each; the mean losses, [networks]."""
        self._form.train()
        weights = torch.stack([training.weights for training in active])
        total, used = torch.zeros(len(active), device=weights.device), 0
        count, size = len(data[0].images), self._settings.batch
        for start in range(0, count - count % size if count % size == 1 else count, size):
            parts = [drawn.part(slice(start, start + size)) for drawn in data]
            images = network_input(torch.stack([part.images for part in parts]))
            scores = self._run(self._state(active, buffers), images, 0)
            labels = torch.stack([part.labels for part in parts])
            losses = vmap(functional.cross_entropy)(scores, labels, weights)
            for training in active:
                training.course.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(losses.sum())
            for training in active:
                training.course.optimiser.step()
            total += losses.detach() * images.shape[1]
            used += images.shape[1]
        return total / max(used, 1)

    def _validate(self, active: Sequence[Training], buffers: dict[str, Tensor]) -> Tensor:
        """Class scores [networks,n,K] of the validation split."""
        self._form.eval()
        images, step = self._validation.images, max(1, _EVALUATION_IMAGES // len(active))
        with torch.no_grad():
            state = self._state(active, buffers)
            parts = [
                self._run(state, network_input(images[start : start + step]), None)
                for start in range(0, len(images), step)
            ]
        return torch.cat(parts, dim=1)
