"""Spectral norms: of one layer, and of all layers of a network in a few batched products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

SPECTRAL_EPS = 1e-6
"""The least length a vector of the power iteration is divided by."""


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
            ((quotient,),) = normalised([WeightGroup([self], [weight])], 1)
            return quotient
        u, v = _unit(self.u), _unit(self.v)
        sigma = torch.dot(u, torch.mv(weight.flatten(1), v))
        return weight / sigma


class WeightGroup:
    """Spectrally normalised weights of one shape and memory order.

    Matrices are taken in the weight's own memory order, (out, taps · in) for channels last, so
    that they are views; the stored v keeps the order (in · taps) of a plain weight.

    Attributes:
        stacks: weights [n, …], u [n, rows] and v [n, columns], views of the layers' tensors.
        matrices: the weights as [n, rows, columns].
    """

    def __init__(self, norms: Sequence[SpectralNorm], weights: Sequence[Tensor]) -> None:
        self.norms, self.weights = norms, weights
        first = weights[0]
        self.rows, self.columns = len(first), first.numel() // len(first)
        # One input channel fits both orders; taken for channels first, its convolution would make
        # channels first images, and the layers after it convert them again and again.
        self.channels_last = first.dim() == 4 and first.is_contiguous(
            memory_format=torch.channels_last
        )
        self.settle()

    def settle(self) -> None:
        """Lay equal tensors side by side in one storage each.

        Loading a state keeps the places; moving a network to another device or type does not.
        """
        tensors = (self.weights, [n.u for n in self.norms], [n.v for n in self.norms])
        self.stacks = [_side_by_side(equal) for equal in tensors]
        weights = self.stacks[0]
        in_order = weights.permute(0, 1, 3, 4, 2) if self.channels_last else weights
        self.matrices = in_order.flatten(2)

    @property
    def moved(self) -> bool:
        """Whether the tensors have left their places."""
        # By storage: the addresses of two views of one storage differ.
        stack, weight = self.stacks[0], self.weights[0]
        return bool(weight.untyped_storage()._cdata != stack.untyped_storage()._cdata)

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
        return v.view(len(v), inputs, -1).transpose(1, 2)


def normalised(groups: Sequence[WeightGroup], forwards: int) -> list[tuple[Tensor, ...]]:
    """The weights of all groups divided by σ for each of the next forwards."""
    weights = [weight for group in groups for weight in group.weights]
    if torch.is_grad_enabled() and any(weight.requires_grad for weight in weights):
        made = _Divide.apply(groups, forwards, *weights)  # type: ignore[no-untyped-call]
    else:
        with torch.no_grad():
            made = _Iterations(groups, forwards).quotients_by_layer()
    return [made[start : start + len(weights)] for start in range(0, len(made), len(weights))]


class _Divide(torch.autograd.Function):
    """weight → weight / σ for all layers and several forwards.

    With W̄ = W/σ and G the gradient at W̄, the gradient at W is (G − ⟨G, W̄⟩ u vᵀ)/σ, summed over
    the forwards.
    """

    @staticmethod
    def forward(
        ctx: Any, groups: Sequence[WeightGroup], forwards: int, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.iterations = _Iterations(groups, forwards)
        made: tuple[Tensor, ...] = ctx.iterations.quotients_by_layer()
        return made

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, None, *ctx.iterations.gradients(gradients)


class _Iterations:
    """Power iterations of several groups at once, one for each of the next forwards.

    The vectors of all layers lie in padded tables, one row per layer, so that lengths and
    quotients of all take one kernel each. The tables are new ones each time: the backward pass of
    a forward needs them after the next forward has moved the stored vectors on.

    Attributes:
        u, v: unit vectors after each iteration, [forwards, layers, most rows or columns].
        sigma: spectral norms [forwards, layers].
    """

    def __init__(self, groups: Sequence[WeightGroup], forwards: int) -> None:
        self.groups, self.forwards = groups, forwards
        starts = list(accumulate((len(group.weights) for group in groups), initial=0))
        self.spans = [slice(*ends) for ends in pairwise(starts)]
        first, layers = groups[0].weights[0], starts[-1]
        raw_v = first.new_zeros(forwards, layers, max(group.columns for group in groups))
        raw_u = first.new_zeros(forwards, layers, max(group.rows for group in groups))
        self.u, self.v = torch.empty_like(raw_u), torch.empty_like(raw_v)
        self.sigma = raw_u.new_empty(forwards, layers)
        before = [group.stacks[1] for group in groups]
        for forward in range(forwards):
            u, v = self.u[forward], self.v[forward]
            for (group, span), start in zip(self._each(), before, strict=True):
                row = raw_v[forward, span, None, : group.columns]
                torch.bmm(start[:, None], group.matrices, out=row)
            length = torch.linalg.vector_norm(raw_v[forward], dim=1, keepdim=True)
            torch.div(raw_v[forward], length.clamp_min(SPECTRAL_EPS), out=v)
            for group, span in self._each():
                column = raw_u[forward, span, : group.rows, None]
                torch.bmm(group.matrices, v[span, : group.columns, None], out=column)
            # u = Wv/‖Wv‖, hence σ = uᵀWv = ‖Wv‖.
            torch.linalg.vector_norm(raw_u[forward], dim=1, out=self.sigma[forward])
            length = self.sigma[forward, :, None].clamp_min(SPECTRAL_EPS)
            torch.div(raw_u[forward], length, out=u)
            before = [u[span, : group.rows] for group, span in self._each()]
        self._store()
        # Not in place: the layers' weights themselves stay as the optimiser left them.
        self.quotients = [
            group.matrices / self.sigma[:, span, None, None] for group, span in self._each()
        ]

    def _each(self) -> Iterator[tuple[WeightGroup, slice]]:
        return zip(self.groups, self.spans, strict=True)

    def _store(self) -> None:
        """Write the last u and v to the layers' buffers."""
        targets, sources = [], []
        for group, span in self._each():
            _, stored_u, stored_v = group.stacks
            v = self.v[-1, span, : group.columns]
            targets += [stored_u, group.ordered(stored_v)]
            sources += [self.u[-1, span, : group.rows], v.view_as(targets[-1])]
        torch._foreach_copy_(targets, sources)

    def quotients_by_layer(self) -> tuple[Tensor, ...]:
        """W/σ in the shapes of the weights: all layers of the first forward, then the next."""
        return tuple(
            group.shaped(matrix)
            for forward in range(self.forwards)
            for group, quotient in zip(self.groups, self.quotients, strict=True)
            for matrix in quotient[forward].unbind()
        )

    def gradients(self, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Gradients at the weights from those at :meth:`quotients_by_layer`."""
        layers = self.sigma.shape[1]
        along = torch.empty_like(self.sigma)
        stacks = []
        for (group, span), quotient in zip(self._each(), self.quotients, strict=True):
            places = [layers * f + i for f in range(self.forwards) for i in range(layers)[span]]
            matrices = [group.matrix(given[place]) for place in places]
            # Stacking a single one would copy it.
            stack = torch.stack(matrices) if len(matrices) > 1 else matrices[0]
            stack = stack.view_as(quotient)
            torch.sum(stack * quotient, dim=(2, 3), out=along[:, span])
            stacks.append(stack / self.sigma[:, span, None, None])
        # One product sums u vᵀ over the forwards.
        left = (self.u * (along / self.sigma)[..., None]).permute(1, 2, 0)
        right = self.v.transpose(0, 1)
        made = []
        for (group, span), stack in zip(self._each(), stacks, strict=True):
            total = stack.sum(dim=0) if self.forwards > 1 else stack[0]
            u, v = left[span, : group.rows], right[span, :, : group.columns]
            made += [group.shaped(m) for m in torch.baddbmm(total, u, v, alpha=-1).unbind()]
        return tuple(made)


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / torch.linalg.vector_norm(vector).clamp_min(SPECTRAL_EPS)
    return unit


def _random_unit(length: int) -> Tensor:
    vector = torch.randn(length)
    return vector if vector.is_meta else _unit(vector)


@torch.no_grad()
def _side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    """Move tensors of one shape and memory order into one storage, values kept: a view [n, …]."""
    first = tensors[0]
    if len(tensors) == 1:
        return first.detach()[None]
    size = first.numel()
    storage = first.new_empty(len(tensors) * size)
    for index, tensor in enumerate(tensors):
        place = storage.as_strided(tensor.shape, tensor.stride(), index * size)
        place.copy_(tensor)
        tensor.data = place
    return storage.as_strided((len(tensors), *first.shape), (size, *first.stride()))
