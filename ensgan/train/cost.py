"""What a full step costs: its operations are counted on torch's meta device, which computes
nothing, and turned into seconds with the rates of a machine.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from ensgan.train.counting import WIDTHS, StepWork, WorkCounter
from ensgan.train.settings import TrainSettings
from ensgan.train.step import Record, discriminator_phase, full_step, generator_phase
from ensgan.train.training import Training
from ensgan.types import ImageShape, Samples
from ensgan.zoo.spec import GANSpec

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
    spec: GANSpec,
    shape: ImageShape,
    num_classes: int,
    settings: TrainSettings,
    *,
    quick: bool = False,
) -> StepWork:
    """Count the operations of a full step of a row; nothing is computed.

    Args:
        spec: the row, already scaled.
        shape, num_classes: of the data.
        settings: batch and discriminator updates.
        quick: see :func:`step_parts`.

    Raises:
        ConfigError: the row breaks a rule for this data.
    """
    updates = settings.optimiser(spec).d_updates_per_step
    if quick:
        rest, update = step_parts(spec, shape, num_classes, settings)
        return rest.plus(update, updates)
    training = _on_meta(spec, shape, num_classes, settings, updates)
    return _mean_work(training, full_step, training.kind)


def step_parts(
    spec: GANSpec, shape: ImageShape, num_classes: int, settings: TrainSettings
) -> tuple[StepWork, StepWork]:
    """Work of what a step does once, and of one of its discriminator updates.

    ADA's controller is due with each: up to a twentieth of the kernels too many.
    """
    training = _on_meta(spec, shape, num_classes, settings, 1)
    rest = _mean_work(training, _rest_of_a_step, lambda: None)
    return rest, _mean_work(training, discriminator_phase, training.regularized)


def _on_meta(
    spec: GANSpec, shape: ImageShape, num_classes: int, settings: TrainSettings, updates: int
) -> Training:
    n = settings.optimiser(spec).batch * updates
    size = (n, shape.size, shape.size) + (() if shape.channels == 1 else (shape.channels,))
    reals = Samples(np.zeros(size, dtype=np.uint8), np.zeros(n, dtype=np.int64))
    on_meta = replace(
        settings,
        device="meta",
        precision="float32",
        compile=False,
        d_updates=updates,
    )
    return Training(spec, reals, num_classes, on_meta)


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
