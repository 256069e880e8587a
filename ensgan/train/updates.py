"""How weights move: Adam as one fused operation, and the averaged copy of a generator."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ensgan.zoo.backbones import Generator
from ensgan.zoo.parts import Adam, NoAverage, WeightAverage


class FusedAdam:
    """Adam (Kingma & Ba 2015) without weight decay, the update of ``torch.optim.Adam``.

    It calls torch's fused kernel directly: constructing a ``torch.optim`` class imports the
    compiler, which costs a process seconds before its first step.

    Attributes:
        parameters: what it updates; one without gradient is left alone, its state too.
        rates: learning rate, betas, eps.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], rates: Adam) -> None:
        self.parameters, self.rates = list(parameters), rates
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update with the gradients at hand."""
        due = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        steps = [self.steps[i] for i in due]
        # One tensor of steps per parameter: a captured step must find its count on the device.
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            [self.parameters[i] for i in due],
            [grad for i in due if (grad := self.parameters[i].grad) is not None],
            [self.means[i] for i in due],
            [self.squares[i] for i in due],
            [],
            steps,
            lr=self.rates.learning_rate,
            beta1=self.rates.betas[0],
            beta2=self.rates.betas[1],
            weight_decay=0.0,
            eps=self.rates.eps,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Moments and step counts."""
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken.

        Raises:
            ValueError: the state belongs to other parameters.
        """
        for name, current in self.state_dict().items():
            for mine, theirs in zip(current, state[name], strict=True):
                mine.copy_(theirs)


class AveragedGenerator:
    """Follows a generator as the row's :class:`WeightAverage` says.

    Attributes:
        generator: the averaged copy; the generator itself when the row has no average.
        rate: 1 − d on the device, float32 []; what a captured step reads.
        captured: whether :meth:`update` is being captured, and must read a changing decay there.
    """

    def __init__(self, generator: Generator, average: WeightAverage, batch: int) -> None:
        self.average, self.batch, self.source = average, batch, generator
        self.follows = not isinstance(average, NoAverage)
        self.generator = (
            copy.deepcopy(generator).eval().requires_grad_(False) if self.follows else generator
        )
        averaged, copied = _pairs(self.generator, generator, average.averages_buffers)
        self.averaged, self.copied = averaged, copied
        self.rate = torch.zeros((), device=next(generator.parameters()).device)
        self.captured = False

    def kind(self, step: int) -> Hashable:
        """What :meth:`update` does at the zero-based ``step``, as far as Python decides it."""
        decay = self.average.decay(step, self.batch)
        constant = decay <= 0 or decay == self.average.decay(step + 1, self.batch)
        return decay if constant else "changing"

    def fill(self, step: int) -> None:
        """Before a replay of the ``step``: put its decay on the device."""
        if self.follows:
            self.rate.fill_(1 - self.average.decay(step, self.batch))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After the zero-based ``step``: e ← d·e + (1 − d)·w."""
        if not self.follows:
            return
        decay = self.average.decay(step, self.batch)
        averages, weights = self.averaged
        if self.captured and self.kind(step) == "changing":
            torch._foreach_lerp_(averages, weights, [self.rate] * len(averages))
        elif decay > 0:
            torch._foreach_lerp_(averages, weights, 1 - decay)
        else:  # the average has not begun: a product by 0 would keep what is not finite
            torch._foreach_copy_(averages, weights)
        copies, sources = self.copied
        if copies:
            torch._foreach_copy_(copies, sources)


TensorPairs: TypeAlias = tuple[list[Tensor], list[Tensor]]


def _pairs(
    averaged: Generator, source: Generator, averages_buffers: bool
) -> tuple[TensorPairs, TensorPairs]:
    """(averages, weights) that are averaged, and those that are copied."""
    average: TensorPairs = ([], [])
    copied: TensorPairs = ([], [])
    for parameter, weight in zip(averaged.parameters(), source.parameters(), strict=True):
        average[0].append(parameter)
        average[1].append(weight.detach())
    for buffer, current in zip(averaged.buffers(), source.buffers(), strict=True):
        target = average if averages_buffers and buffer.is_floating_point() else copied
        target[0].append(buffer)
        target[1].append(current)
    return average, copied
