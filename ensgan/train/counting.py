"""Operations counted on torch's meta device, which computes nothing."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ensgan.zoo.meta import Remembered, tensors

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


class WorkCounter(Remembered):  # type: ignore[no-untyped-call]
    """Notes kernels, arithmetic and bytes of what runs under it."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0
        self.flops: Counter[int] = Counter()
        self.bytes = 0

    def work(self) -> StepWork:
        """What was counted."""
        return StepWork(self.kernels, tuple(self.flops[width] for width in WIDTHS), self.bytes)

    def note(self, func: Any, args: tuple[Any, ...], made: Any) -> tuple[int, int, int, int]:
        """Kernels, the entry of WIDTHS, arithmetic and bytes."""
        packet = func._schema.name.removeprefix("aten::")
        if packet in _ALLOCATIONS:
            return 0, 0, 0, 0
        kernels = 2 if packet == "constant_pad_nd" else 1
        if packet in _PRODUCTS:
            width, flops = _product(packet, args, made)
            return kernels, min(WIDTHS, key=lambda known: abs(math.log(known / width))), flops, 0
        touched = {id(tensor): tensor for tensor in tensors((args, made))}
        return kernels, 0, 0, sum(tensor.nbytes for tensor in touched.values())

    def repeat(self, noted: tuple[int, int, int, int]) -> None:
        """Count it once more."""
        kernels, width, flops, size = noted
        self.kernels += kernels
        self.flops[width] += flops
        self.bytes += size


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
    left, right = (tensor for tensor in tensors(args)[-2:])
    columns = right.shape[-1] if right.dim() > 1 else 1
    return max(1, min(left.shape[-1], columns)), 2 * left.numel() * columns
