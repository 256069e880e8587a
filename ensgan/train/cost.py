"""What a full step costs: its operations are counted on torch's meta device, which computes
nothing, and turned into seconds with the rates of a machine.
"""

from __future__ import annotations

import functools
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ensgan.train.settings import TrainSettings
from ensgan.train.state import Record
from ensgan.train.training import Training, discriminator_phase, generator_phase
from ensgan.types import ImageShape, Samples
from ensgan.zoo.footprint import Remembered, tensors
from ensgan.zoo.table import GANSpec

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


_PERIOD = 16
"""Steps over which lazy regularizers and controllers are averaged."""
_LATE = 1_000 * _PERIOD
"""A step at which averages have begun."""


@dataclass(frozen=True)
class Machine:
    """Rates of a device.

    Attributes:
        flops_per_second: of convolutions at each of :data:`WIDTHS`.
        bytes_per_second: of elementwise operations, read and written.
        seconds_per_kernel: the least an operation takes.
    """

    flops_per_second: tuple[float, ...]
    bytes_per_second: float
    seconds_per_kernel: float

    def seconds(self, work: StepWork) -> float:
        """Estimated duration of a step, without overlap of arithmetic and memory."""
        arithmetic = sum(
            flops / rate for flops, rate in zip(work.flops, self.flops_per_second, strict=True)
        )
        return (
            arithmetic + work.bytes / self.bytes_per_second + work.kernels * self.seconds_per_kernel
        )


H200: Mapping[str, Machine] = {
    "float32": Machine((43e12,) * 3, 3.6e12, 2.2e-6),
    "tf32": Machine((115e12,) * 3, 3.6e12, 2.2e-6),
    "bfloat16": Machine((130e12,) * 3, 3.6e12, 2.2e-6),
}
"""Rates of an NVIDIA H200 by precision, for plans that are made without one.

Fitted to captured steps of SNGAN, BigGAN and StyleGAN2 at full width, 27 ms, 48 ms and 54 ms in
bfloat16, within a sixth of each (docs/results/gpu.md); float32 is its rate of large products.
"""


def step_work(
    spec: GANSpec, shape: ImageShape, num_classes: int, settings: TrainSettings
) -> StepWork:
    """Count the operations of a full step of a row; see :func:`step_parts`."""
    rest, update = step_parts(spec, shape, num_classes, settings)
    return rest.plus(update, settings.optimiser(spec).d_updates_per_step)


def step_parts(
    spec: GANSpec, shape: ImageShape, num_classes: int, settings: TrainSettings
) -> tuple[StepWork, StepWork]:
    """Work of what a step does once, and of one of its discriminator updates; nothing is computed.

    ADA's controller counts with each update: up to a twentieth of the kernels too many.

    Args:
        spec: the row, already scaled.
        shape, num_classes: of the data.
        settings: batch and discriminator updates.

    Raises:
        ConfigError: the row breaks a rule for this data.
    """
    n = settings.optimiser(spec).batch
    reals = Samples(np.zeros(shape.array_shape(n), np.uint8), np.zeros(n, np.int64))
    changes: dict[str, Any] = {"device": "meta", "precision": "float32", "compile": False}
    training = Training(spec, reals, num_classes, replace(settings, **changes, d_updates=1))
    rest = _mean_work(training, _rest_of_a_step, lambda: None)
    return rest, _mean_work(training, discriminator_phase, training.regularized)


def _rest_of_a_step(training: Training, record: Record) -> None:
    """What a step does once, however many discriminator updates it has."""
    generator_phase(training, record)
    training.average.update(training.step)


def _mean_work(
    training: Training,
    work: Callable[[Training, Record], None],
    kind_of_step: Callable[[], Hashable],
) -> StepWork:
    """Of a part of a step, over the kinds of steps as often as they come."""
    record = Record(training.spec.name)
    counted: dict[Hashable, StepWork] = {}
    total = StepWork(0, (0,) * len(WIDTHS), 0)
    for step in range(_LATE, _LATE + _PERIOD):
        training.step = step
        kind = kind_of_step()
        if kind not in counted:
            with WorkCounter() as counter:
                work(training, record)
                record.step_means()
            counted[kind] = counter.work()
        total = total.plus(counted[kind], 1 / _PERIOD)
    return total


def measure_machine(device: str = "cpu", precision: str = "float32") -> Machine:
    """Measure the rates of a device in about a second (of one thread, if torch has one)."""
    place = torch.device(device)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    batch = 16 if place.type == "cpu" else 256
    rates = []
    with torch.inference_mode():
        for width in WIDTHS:
            images = torch.randn(batch, width, 16, 16, device=place, dtype=dtype)
            images = images.to(memory_format=torch.channels_last)
            kernel = torch.randn(width, width, 3, 3, device=place, dtype=dtype)
            kernel = kernel.to(memory_format=torch.channels_last)
            convolve = functools.partial(functional.conv2d, images, kernel, padding=1)
            seconds = _fastest(convolve, place)
            rates.append(2 * 9 * width**2 * images.numel() / width / seconds)
        large = torch.randn(1 << 22, device=place)
        doubled = _fastest(lambda: large + large, place)
        launch = _fastest(_many_small_kernels(place), place) / _SMALL_KERNELS
    return Machine(tuple(rates), 3 * large.nbytes / doubled, launch)


_SMALL_KERNELS = 100


def _many_small_kernels(device: torch.device) -> Callable[[], object]:
    """Work of nothing but launches; on a GPU replayed from a graph, as training steps are."""
    small = torch.zeros(64, device=device)

    def work() -> None:
        for _ in range(_SMALL_KERNELS):
            small.add_(1)

    if device.type != "cuda":
        return work
    work()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of the runs in a tenth of a second, the first one left out."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    begin, best = now(), math.inf
    work()
    while best == math.inf or now() - begin < 0.1:
        start = now()
        work()
        best = min(best, now() - start)
    return best
