"""Operations counted on torch's meta device, which computes nothing."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WIDTHS = (16, 64, 256)
"""Channels at which the rate of convolutions is measured: narrow ones are far from the peak."""

_ALLOCATIONS = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "_unsafe_view",
    "promote_types",
}
_PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "mv", "convolution", "convolution_backward"}


@dataclass(frozen=True)
class StepWork:
    """The operations of one full step, a mean over the lazy ones.

    Attributes:
        kernels: operations dispatched, without views and bare allocations. Padding counts twice
            (it fills and copies); an operation over a list of tensors counts once, also where a
            card needs several kernels for it.
        flops: of convolutions and matrix products, 2 per multiply-add, by the entry of
            :data:`WIDTHS` that their narrower side comes nearest to.
        bytes: read and written by everything else.
    """

    kernels: float
    flops: tuple[float, ...]
    bytes: float

    def plus(self, other: StepWork, times: float) -> StepWork:
        """This and so many times the other."""
        flops = (a + times * b for a, b in zip(self.flops, other.flops, strict=True))
        return StepWork(
            self.kernels + times * other.kernels, tuple(flops), self.bytes + times * other.bytes
        )

    def scaled(self, flops: float, bytes: float) -> StepWork:
        """As many kernels with so many times the arithmetic and memory traffic."""
        return StepWork(
            self.kernels, tuple(flops * each for each in self.flops), bytes * self.bytes
        )


class WorkCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes kernels, arithmetic and bytes of what runs under it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Else torch imports its compiler with the first operation, which takes seconds."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels = 0
        self.flops: Counter[int] = Counter()
        self.bytes = 0

    def work(self) -> StepWork:
        """What was counted."""
        return StepWork(self.kernels, tuple(self.flops[width] for width in WIDTHS), self.bytes)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = _results(func, args, kwargs or {})
        packet = func._schema.name.removeprefix("aten::")  # type: ignore[attr-defined]
        if func.is_view or packet in _ALLOCATIONS:  # type: ignore[attr-defined]
            return made
        tensors = {id(tensor): tensor for tensor in _tensors((args, made))}
        # What is made once, filters and the order of the reals, is made on the CPU.
        if not all(tensor.is_meta for tensor in tensors.values()):
            return made
        self.kernels += 2 if packet == "constant_pad_nd" else 1
        if packet in _PRODUCTS:
            width, flops = _product(packet, args, made)
            self.flops[min(WIDTHS, key=lambda known: abs(math.log(known / width)))] += flops
        else:
            self.bytes += sum(tensor.nbytes for tensor in tensors.values())
        return made


_LISTS, _NUMBERS = (tuple, list), (int, float)  # tuple | list would be made anew in every look


class _Shaped(NamedTuple):
    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype


class _Number(NamedTuple):
    """A number and its kind: 1, 1.0 and True are equal, what they make of a tensor is not."""

    value: int | float
    kind: type


def _results(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What an operation gives on the meta device.

    Torch works most of it out in Python, so what writes nowhere is looked up where its like was
    seen: training repeats itself, and so do the rows.
    """
    if func.is_view or func._schema.is_mutable:
        return func(*args, **kwargs)
    tensors = _tensors((args, tuple(kwargs.values())))
    if not tensors or not all(tensor.is_meta for tensor in tensors):
        return func(*args, **kwargs)
    return _made(_looked_up(func, _described(args), _described(tuple(kwargs.items()))))


@functools.lru_cache(maxsize=1 << 16)
def _looked_up(func: Any, args: Any, kwargs: Any) -> Any:
    return _described(func(*_made(args), **dict(_made(kwargs))))


def _described(value: Any) -> Any:
    """The same, hashable, with the shape of every tensor in its place."""
    if isinstance(value, Tensor):
        return _Shaped(value.shape, value.stride(), value.dtype)
    if isinstance(value, _NUMBERS):
        return _Number(value, type(value))
    if isinstance(value, _LISTS):
        return tuple(_described(part) for part in value)
    return value


def _made(described: Any) -> Any:
    """What :func:`_described` was given, with new tensors and with tuples for lists."""
    if isinstance(described, _Shaped):
        size, stride, dtype = described
        return torch.empty_strided(size, stride, dtype=dtype, device="meta")
    if isinstance(described, _Number):
        return described.value
    if isinstance(described, tuple):
        return tuple(_made(part) for part in described)
    return described


def _product(name: str, args: tuple[Any, ...], made: Any) -> tuple[int, int]:
    """(channels of the narrower side, operations) of a convolution or matrix product."""
    if name.startswith("convolution"):
        backward = name == "convolution_backward"
        images, weight = (args[1], args[2]) if backward else (args[0], args[1])
        transposed = args[7] if backward else args[6]
        result = args[0] if backward else made
        # Each weight meets every position of the smaller side: of the result, or of the input of a
        # transposed convolution.
        smaller = images if transposed else result
        positions = smaller.numel() // smaller.shape[1]
        passes = sum(args[-1][:2]) if backward else 1
        return min(weight.shape[:2]), 2 * weight.numel() * positions * passes
    left, right = (tensor for tensor in _tensors(args)[-2:])
    columns = right.shape[-1] if right.dim() > 1 else 1
    return max(1, min(left.shape[-1], columns)), 2 * left.numel() * columns


def _tensors(value: Any) -> list[Tensor]:
    """Those of an operation's arguments and results, which are lists at most."""
    # torch's own tree_leaves took a fifth of the time of counting.
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, _LISTS):
        return [tensor for part in value for tensor in _tensors(part)]
    return []
