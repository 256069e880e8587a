"""The weights that the layers of a network compute with, made for all layers at once.

A layer divides its weight by a spectral norm, or multiplies it by a constant (equalised learning
rate). Left to themselves layers do so one by one, with more than twenty small kernels per layer and
forward: on a GPU most of the launches of a step. :class:`EffectiveWeights` does the same
arithmetic in a few large operations and hands each layer its result for one forward. A network
called without it behaves the same, only slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ensgan.zoo.backbones.spectral import SpectralNorm, WeightGroup, normalised


class ScaledParameters(nn.Module):
    """A layer that uses some of its parameters times constants.

    Attributes:
        gains: factor by parameter name.
        ready: products made beforehand for the forward that is running, else empty.
    """

    gains: dict[str, float]
    ready: dict[str, Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.gains, self.ready = {}, {}

    def scaled(self, name: str) -> Tensor:
        """The parameter of that name times its factor."""
        if name in self.ready:
            return self.ready[name]
        product: Tensor = getattr(self, name) * self.gains[name]
        return product


class EffectiveWeights:
    """What all layers of one network compute with.

    Weights of one shape are moved into one block of memory, so that one batched product serves
    them all without copying them; values, names and the tensors themselves stay as they are.

    Args:
        network: on its device, in its memory format; optimisers and averages come afterwards.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        # Strides are part of the key: weights of one shape may lie channels first or last.
        by_shape: dict[tuple[int, ...], list[tuple[SpectralNorm, Tensor]]] = {}
        self._scaled: list[tuple[ScaledParameters, str]] = []
        for layer in network.modules():
            norm = getattr(layer, "normalise", None)
            if isinstance(norm, SpectralNorm):
                weight = layer.get_parameter("weight")
                by_shape.setdefault((*weight.shape, *weight.stride()), []).append((norm, weight))
            elif isinstance(layer, ScaledParameters):
                self._scaled += [(layer, name) for name in layer.gains]
        self._groups = [WeightGroup(*zip(*equal, strict=True)) for equal in by_shape.values()]
        self._ahead: list[Handouts] = []

    @contextmanager
    def ahead(self, forwards: int) -> Iterator[None]:
        """Make the weights of the next forwards together; they share a backward pass.

        The weights must not change in between. The power iterations are those of single forwards.
        """
        self._ahead = self._make(forwards)
        try:
            yield
        finally:
            self._ahead = []

    @contextmanager
    def ready(self) -> Iterator[None]:
        """One forward of the network in train mode: a power iteration, and the weights handed out.

        Both this and :meth:`ahead` are entered outside automatic mixed precision, which would run
        the power iteration in a short format.
        """
        quotients, products = (self._ahead or self._make(1)).pop(0)
        norms = [norm for group in self._groups for norm in group.norms]
        # In eval mode there are no quotients: layers then divide by the stored vectors' σ.
        for norm, weight in zip(norms, quotients, strict=False):
            norm.ready = weight
        for (layer, name), product in zip(self._scaled, products, strict=True):
            layer.ready[name] = product
        try:
            yield
        finally:
            # A forward outside of this context must not meet weights of an earlier step.
            for norm in norms:
                norm.ready = None
            for layer, _ in self._scaled:
                layer.ready = {}

    def _make(self, forwards: int) -> list[Handouts]:
        quotients: list[tuple[Tensor, ...]] = [()] * forwards
        if self._groups and self.network.training:
            for group in self._groups:
                if group.moved:
                    group.settle()
            quotients = normalised(self._groups, forwards)
        products: tuple[Tensor, ...] = ()
        if self._scaled:
            gains = [layer.gains[name] for layer, name in self._scaled]
            parameters = [getattr(layer, name) for layer, name in self._scaled]
            products = _Scale.apply(gains, *parameters)  # type: ignore[no-untyped-call]
        return [(made, products) for made in quotients]


Handouts: TypeAlias = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""Quotients of the spectrally normalised layers, products of the scaled parameters."""


class _Scale(torch.autograd.Function):
    """Tensors times one constant each, as one operation in either direction."""

    @staticmethod
    def forward(ctx: Any, gains: list[float], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.gains = gains
        return tuple(torch._foreach_mul(tensors, gains))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, *torch._foreach_mul(gradients, ctx.gains)
