"""The weights that the layers of a network compute with, made for all layers at once.

A layer divides its weight by a spectral norm, or multiplies it by a constant (equalised learning
rate). Left to themselves layers do so one by one, with more than twenty small kernels a layer and
forward: on a GPU most of the launches of a step. :class:`EffectiveWeights` does the same
arithmetic in a few large operations and hands each layer its result for one forward. A network
called without it behaves the same, only slower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

SPECTRAL_EPS = 1e-6
"""The least length a vector of the power iteration is divided by."""


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


class SpectralNorm(nn.Module):
    """Divides a weight by its spectral norm σ (Miyato et al. 2018).

    Each forward in train mode does one power iteration, v ← Wᵀu/‖Wᵀu‖ and u ← Wv/‖Wv‖ with
    W of shape (out, rest), and stores both. In eval mode nothing moves, and σ = uᵀWv / (‖u‖·‖v‖):
    the stored vectors of an averaged generator are means of unit vectors, hence shorter ones.
    Gradients flow through W in σ = uᵀWv, not through u and v.

    Attributes:
        ready: the quotient made beforehand for the forward that is running, else None.
    """

    u: Tensor
    v: Tensor
    ready: Tensor | None = None

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.register_buffer("u", _random_unit(rows))
        self.register_buffer("v", _random_unit(columns))

    def forward(self, weight: Tensor) -> Tensor:
        """weight (out, …) → weight / σ."""
        if self.ready is not None:
            return self.ready
        if self.training:
            (normalised,) = _normalised([_Group([self], [weight])])
            return normalised
        u, v = _unit(self.u), _unit(self.v)
        sigma = torch.dot(u, torch.mv(weight.flatten(1), v))
        return weight / sigma


class EffectiveWeights:
    """What all layers of one network compute with.

    Weights of one shape are moved into one block of memory, so that one batched product serves
    them all without copying them; values, names and the tensors themselves stay as they are.

    Args:
        network: on its device, in its memory format; optimisers and averages come afterwards.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        by_shape: dict[tuple[int, ...], _Group] = {}
        self._scaled: list[tuple[ScaledParameters, str]] = []
        for layer in network.modules():
            norm = getattr(layer, "normalise", None)
            if isinstance(norm, SpectralNorm):
                weight = layer.weight
                key = (*weight.shape, *weight.stride())
                group = by_shape.setdefault(key, _Group([], []))
                group.norms.append(norm)
                group.weights.append(weight)
            elif isinstance(layer, ScaledParameters):
                self._scaled += [(layer, name) for name in layer.gains]
        self._groups = list(by_shape.values())
        for group in self._groups:
            group.share_memory()

    @contextmanager
    def ready(self) -> Iterator[None]:
        """One forward of the network in train mode: a power iteration, and the weights handed out.

        Enter it outside automatic mixed precision, which would run the iteration in a short format.
        """
        self._hand_out()
        try:
            yield
        finally:
            for group in self._groups:
                for norm in group.norms:
                    norm.ready = None
            for layer, _ in self._scaled:
                layer.ready = {}

    def _hand_out(self) -> None:
        if self._groups and self.network.training:
            norms = [norm for group in self._groups for norm in group.norms]
            for norm, weight in zip(norms, _normalised(self._groups), strict=True):
                norm.ready = weight
        if self._scaled:
            gains = [layer.gains[name] for layer, name in self._scaled]
            parameters = [getattr(layer, name) for layer, name in self._scaled]
            products = _Scale.apply(gains, *parameters)  # type: ignore[no-untyped-call]
            for (layer, name), product in zip(self._scaled, products, strict=True):
                layer.ready[name] = product


class _Scale(torch.autograd.Function):
    """Tensors times one constant each, as one operation in either direction."""

    @staticmethod
    def forward(ctx: Any, gains: list[float], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.gains = gains
        return tuple(torch._foreach_mul(tensors, gains))

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, *torch._foreach_mul(gradients, ctx.gains)


@dataclass
class _Group:
    """Spectrally normalised weights of one shape and memory order.

    Matrices are taken in the weight's own memory order, (out, taps · in) for channels last, so
    that they are views; the stored v keeps the order (in · taps) of a plain weight.
    """

    norms: list[SpectralNorm]
    weights: list[Tensor]

    @property
    def rows(self) -> int:
        return len(self.weights[0])

    @property
    def columns(self) -> int:
        return self.weights[0].numel() // self.rows

    @property
    def channels_last(self) -> bool:
        first = self.weights[0]
        return first.dim() == 4 and not first.is_contiguous()

    def share_memory(self) -> None:
        """Lay equal tensors side by side in one storage each."""
        if len(self.weights) > 1:
            _lay_side_by_side(self.weights)
            _lay_side_by_side([norm.u for norm in self.norms])
            _lay_side_by_side([norm.v for norm in self.norms])

    def matrix(self, tensor: Tensor) -> Tensor:
        """A weight, or a gradient of one, as (rows, columns) in the group's memory order."""
        return (tensor.permute(0, 2, 3, 1) if self.channels_last else tensor).flatten(1)

    def shaped(self, matrix: Tensor) -> Tensor:
        """The inverse of :meth:`matrix`."""
        out, *rest = self.weights[0].shape
        if not self.channels_last:
            return matrix.view(out, *rest)
        inputs, *taps = rest
        return matrix.view(out, *taps, inputs).permute(0, 3, 1, 2)

    def ordered(self, v: Tensor) -> Tensor:
        """Stored v [n, columns] as a view [n, taps, inputs], the order of :meth:`matrix`."""
        inputs = self.weights[0].shape[1] if self.channels_last else self.columns
        return v.unflatten(1, (inputs, -1)).transpose(1, 2)


def _normalised(groups: Sequence[_Group]) -> tuple[Tensor, ...]:
    """One power iteration of all groups; their weights divided by σ, in order."""
    weights = [weight for group in groups for weight in group.weights]
    if torch.is_grad_enabled() and any(weight.requires_grad for weight in weights):
        made: tuple[Tensor, ...] = _Divide.apply(groups, *weights)  # type: ignore[no-untyped-call]
        return made
    with torch.no_grad():
        iteration = _Iteration(groups)
        return iteration.shaped(iteration.quotients())


class _Divide(torch.autograd.Function):
    """weight → weight / σ for all layers. With W̄ = W/σ and G the gradient at W̄, the gradient at W
    is (G − ⟨G, W̄⟩ u vᵀ)/σ.
    """

    @staticmethod
    def forward(ctx: Any, groups: Sequence[_Group], *weights: Tensor) -> tuple[Tensor, ...]:
        del weights
        ctx.iteration = iteration = _Iteration(groups)
        ctx.quotients = iteration.quotients()
        return iteration.shaped(ctx.quotients)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, *ctx.iteration.gradients(ctx.quotients, gradients)


class _Iteration:
    """One power iteration of several groups at once.

    The vectors of all layers lie in two padded tables, one row per layer, so that lengths and
    quotients of all take one kernel each. The tables are new ones each time: the backward pass of
    a forward needs them after the next forward has moved the stored vectors on.

    Attributes:
        u, v: unit vectors after the iteration, [layers, most rows] and [layers, most columns].
        sigma: spectral norms [layers].
    """

    def __init__(self, groups: Sequence[_Group]) -> None:
        self.groups = groups
        starts = [0]
        for group in groups:
            starts.append(starts[-1] + len(group.weights))
        self.spans = [slice(*ends) for ends in pairwise(starts)]
        self.matrices = [_joined([group.matrix(w) for w in group.weights]) for group in groups]
        first, layers = groups[0].weights[0], starts[-1]
        raw_v = first.new_zeros(layers, max(group.columns for group in groups))
        raw_u = first.new_zeros(layers, max(group.rows for group in groups))
        for group, span, matrix in self._each():
            u = _joined([norm.u for norm in group.norms])
            torch.bmm(u[:, None], matrix, out=raw_v[span, None, : group.columns])
        self.v = raw_v / _lengths(raw_v).clamp_min(SPECTRAL_EPS)[:, None]
        for group, span, matrix in self._each():
            v = self.v[span, : group.columns, None]
            torch.bmm(matrix, v, out=raw_u[span, : group.rows, None])
        self.sigma = _lengths(raw_u)  # u = Wv/‖Wv‖, hence uᵀWv = ‖Wv‖
        self.u = raw_u / self.sigma.clamp_min(SPECTRAL_EPS)[:, None]
        self._store()

    def _each(self) -> Iterator[tuple[_Group, slice, Tensor]]:
        return zip(self.groups, self.spans, self.matrices, strict=True)

    def _store(self) -> None:
        """Write u and v to the layers' buffers."""
        targets: list[Tensor] = []
        sources: list[Tensor] = []
        for group, span, _ in self._each():
            u, v = self.u[span, : group.rows], self.v[span, : group.columns]
            for stored, made in (
                (_blocks([norm.u for norm in group.norms]), u),
                ([group.ordered(block) for block in _blocks([n.v for n in group.norms])], v),
            ):
                targets += stored
                parts = made.split([len(block) for block in stored])
                sources += [p.view_as(b) if b.dim() == 2 else p.unflatten(1, b.shape[1:])
                            for p, b in zip(parts, stored, strict=True)]
        torch._foreach_copy_(targets, sources)

    def quotients(self) -> list[Tensor]:
        """W/σ, [layers, rows, columns] for each group."""
        return [matrix / self.sigma[span, None, None] for _, span, matrix in self._each()]

    def shaped(self, matrices: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Matrices by group as one tensor per layer, in the shapes of the weights."""
        return tuple(
            group.shaped(matrix)
            for group, stack in zip(self.groups, matrices, strict=True)
            for matrix in stack.unbind()
        )

    def gradients(self, quotients: list[Tensor], given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Gradients at the weights from those at the quotients."""
        along = torch.empty_like(self.sigma)
        made = []
        for (group, span, _), quotient in zip(self._each(), quotients, strict=True):
            gradient = _joined([group.matrix(tensor) for tensor in given[span]])
            torch.sum(gradient * quotient, dim=(1, 2), out=along[span])
            made.append(gradient)
        left = self.u * along[:, None]
        for index, (group, span, _) in enumerate(self._each()):
            u, v = left[span, : group.rows, None], self.v[span, None, : group.columns]
            made[index] = torch.baddbmm(made[index], u, v, alpha=-1)
            made[index].div_(self.sigma[span, None, None])
        return self.shaped(made)


def _lengths(table: Tensor) -> Tensor:
    return torch.linalg.vector_norm(table, dim=1)


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / torch.linalg.vector_norm(vector).clamp_min(SPECTRAL_EPS)
    return unit


def _random_unit(length: int) -> Tensor:
    vector = torch.randn(length)
    return vector if vector.is_meta else _unit(vector)


@torch.no_grad()
def _lay_side_by_side(tensors: Sequence[Tensor]) -> None:
    """Move tensors of one shape and memory order into one storage, values kept."""
    first = tensors[0]
    size = first.numel()
    storage = first.new_empty(len(tensors) * size)
    for index, tensor in enumerate(tensors):
        place = storage.as_strided(tensor.shape, tensor.stride(), index * size)
        place.copy_(tensor)
        tensor.data = place


def _blocks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """All tensors as one view [n, …] if they lie side by side, else each of them as [1, …]."""
    first = tensors[0]
    start, size, storage = first.storage_offset(), first.numel(), first.untyped_storage()._cdata
    for index, tensor in enumerate(tensors):
        # Loading a state keeps the places; moving a network to another device does not.
        if tensor.untyped_storage()._cdata != storage or (
            tensor.storage_offset() != start + index * size
        ):
            return [tensor[None] for tensor in tensors]
    return [first.as_strided((len(tensors), *first.shape), (size, *first.stride()))]


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape as [n, …], without a copy where they lie side by side."""
    blocks = _blocks(tensors)
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)
