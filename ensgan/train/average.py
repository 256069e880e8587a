"""The averaged copy of a generator."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ensgan.zoo.backbones.base import Generator
from ensgan.zoo.optimiser import NoAverage, WeightAverage


class AveragedGenerator:
    """Follows a generator as the row's :class:`WeightAverage` says.

    Attributes:
        generator: the averaged copy; the generator itself when the row has no average.
    """

    def __init__(self, generator: Generator, average: WeightAverage, batch: int) -> None:
        self.average, self.batch, self.source = average, batch, generator
        self.follows = not isinstance(average, NoAverage)
        self.generator = (
            copy.deepcopy(generator).eval().requires_grad_(False) if self.follows else generator
        )
        averaged, copied = _pairs(self.generator, generator, average.averages_buffers)
        self.averaged, self.copied = averaged, copied

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After the zero-based ``step``: e ← d·e + (1 − d)·w."""
        if not self.follows:
            return
        decay = self.average.decay(step, self.batch)
        averages, weights = self.averaged
        if decay > 0:
            torch._foreach_lerp_(averages, weights, 1 - decay)
        else:
            torch._foreach_copy_(averages, weights)
        copies, sources = self.copied
        if copies:
            torch._foreach_copy_(copies, sources)


TensorPairs = tuple[list[Tensor], list[Tensor]]


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
