"""What a sweep would do and cost: the dry run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from ensgan import train, zoo
from ensgan.sweep.inputs import Resolved
from ensgan.sweep.planning.disk import FLOAT_BYTES, disk_bytes, free_bytes
from ensgan.train.record import Record
from ensgan.train.step import full_step
from ensgan.train.training import Training

MEASURED_SECONDS = 2.0
"""Per GAN; a step that takes longer is measured once, at a smaller batch."""
SMALL_BATCH = 8


@dataclass(frozen=True)
class GanPlan:
    """One trial.

    Attributes:
        seconds_per_step: measured here, on one thread; ``measured_batch`` is the batch it was
            measured at (scaled linearly to ``batch``).
        seconds: of the whole training.
        memory_bytes: weights, gradients, optimiser state, averaged weights, and what the process
            grew by during the measured steps.
        snapshot_bytes: of one generator file.
    """

    gan: str
    steps: int
    snapshots: int
    batch: int
    measured_batch: int
    seconds_per_step: float
    seconds: float
    generator_parameters: int
    discriminator_parameters: int
    memory_bytes: int
    snapshot_bytes: int


@dataclass(frozen=True)
class Plan:
    """The whole sweep. ``wall_seconds`` is of training alone, on ``slots`` slots.

    Attributes:
        device: where the steps were measured, ``cpu`` (one thread) or ``cuda``.
        wants_gpu: trials will run on GPUs.
    """

    sweep: str
    rows: tuple[GanPlan, ...]
    members: int
    steps: int
    images: int
    slots: int
    training_seconds: float
    wall_seconds: float
    classifiers: int
    disk_bytes: int
    free_bytes: int
    device: str
    wants_gpu: bool

    @property
    def sentence(self) -> str:
        """The plan in words."""
        fits = "" if self.disk_bytes <= self.free_bytes else " – NOT ENOUGH"
        return (
            f"{self.sweep}: {self.members} members of {len(self.rows)} GANs, {self.steps:,} steps, "
            f"{self.images:,} images to generate, {self.classifiers} classifiers to train\n"
            f"training about {_duration(self.wall_seconds)} on {self.slots} slots "
            f"({_duration(self.training_seconds)} in all), disk {self.disk_bytes / 2**20:,.0f} MB "
            f"of {self.free_bytes / 2**30:,.0f} GB free{fits}{self._remark}"
        )

    @property
    def _remark(self) -> str:
        if not self.wants_gpu or self.device == "cuda":
            return ""
        return (
            "\nno GPU here: times are of one CPU thread and this machine's slots; those of the "
            "GPUs that the sweep asks for are unknown: run --dry-run on a node that has one"
        )

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-able values."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows]}


def make_plan(
    resolved: Resolved,
    storage: Path,
    *,
    slots: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:
    """Measure a few steps of every GAN and add up. Nothing is written."""
    spec = resolved.spec
    rows = []
    wants_gpu = bool(spec.cluster.gpus_per_trial)
    device = "cuda" if wants_gpu and torch.cuda.is_available() else "cpu"
    for i, (row, settings) in enumerate(zip(resolved.gans, resolved.settings, strict=True)):
        rows.append(_gan_plan(resolved, row, replace(settings, device=device)))
        on_progress(i + 1, len(resolved.gans))
    if slots is None:
        cpus = psutil.cpu_count(logical=True) or 1
        slots = max(1, int(cpus // spec.cluster.cpus_per_trial))
    slots = min(slots, spec.cluster.max_concurrent or slots, max(1, len(rows)))
    members = sum(row.snapshots for row in rows) + len(spec.members)
    images = members * resolved.count
    return Plan(
        sweep=spec.name,
        rows=tuple(rows),
        members=members,
        steps=sum(row.steps for row in rows),
        images=images,
        slots=slots,
        training_seconds=sum(row.seconds for row in rows),
        wall_seconds=makespan([row.seconds for row in rows], slots),
        classifiers=spec.evaluate.repeats * len(spec.evaluate.strategies),
        disk_bytes=disk_bytes(resolved),
        free_bytes=free_bytes(storage),
        device=device,
        wants_gpu=wants_gpu,
    )


def makespan(seconds: list[float], slots: int) -> float:
    """Wall time of jobs on equal slots, the longest first."""
    loads = [0.0] * slots
    for job in sorted(seconds, reverse=True):
        loads[loads.index(min(loads))] += job
    return max(loads)


def _gan_plan(resolved: Resolved, row: zoo.GANSpec, settings: train.TrainSettings) -> GanPlan:
    shape, classes = resolved.dataset.shape, resolved.dataset.num_classes
    generator, discriminator = zoo.count_parameters(row, shape, classes)
    batch = settings.optimiser(row).batch
    before = psutil.Process().memory_info().rss
    measured_batch = min(batch, SMALL_BATCH)
    per_step = _measure(resolved, row, replace(settings, batch=measured_batch))
    if per_step * batch / measured_batch <= MEASURED_SECONDS:
        measured_batch = batch
        per_step = _measure(resolved, row, settings)
    per_step *= batch / measured_batch
    grown = max(0, psutil.Process().memory_info().rss - before)
    # Weights, gradients and Adam's two moments of both networks, and the averaged generator.
    held = FLOAT_BYTES * (4 * (generator + discriminator) + generator)
    return GanPlan(
        gan=row.name,
        steps=settings.steps,
        snapshots=settings.snapshots,
        batch=batch,
        measured_batch=measured_batch,
        seconds_per_step=per_step,
        seconds=per_step * settings.steps,
        generator_parameters=generator,
        discriminator_parameters=discriminator,
        memory_bytes=held + grown,
        snapshot_bytes=FLOAT_BYTES * generator,
    )


def _measure(resolved: Resolved, row: zoo.GANSpec, settings: train.TrainSettings) -> float:
    """Seconds a step on one thread, without the first (median of a few)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        training = Training(row, resolved.dataset.train, resolved.dataset.num_classes, settings)
        record = Record(row.name)
        taken: list[float] = []
        while len(taken) < 2 or (len(taken) < 8 and sum(taken) < MEASURED_SECONDS):
            begin = time.perf_counter()
            full_step(training, record)
            if settings.device != "cpu":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - begin)
            if len(taken) == 1 and taken[0] > MEASURED_SECONDS:
                return taken[0]
        return sorted(taken[1:])[(len(taken) - 1) // 2]
    finally:
        torch.set_num_threads(threads)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
