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
from ensgan.sweep.planning.cost import (
    FLOAT_BYTES,
    device_bytes,
    disk_bytes,
    free_bytes,
    gpu_share,
    slots_of,
    state_bytes,
)
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
    """The whole sweep.

    Attributes:
        slots: trials at once on this machine: as many as its CPUs and the trials' shares of its
            GPUs (of one GPU where it has none) let run.
        training_seconds: of all trials together; ``wall_seconds`` on the slots. Training alone.
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

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-able values."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows]}


def make_plan(
    resolved: Resolved,
    storage: Path,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:
    """Measure a few steps of every GAN and add up. Nothing is written.

    Args:
        resolved: the sweep.
        storage: where it would be kept.
        on_progress: called with the GANs measured and all of them.
    """
    spec = resolved.spec
    rows = []
    wants_gpu = bool(spec.cluster.gpus_per_trial)
    device = "cuda" if wants_gpu and torch.cuda.is_available() else "cpu"
    for i, (row, settings) in enumerate(zip(resolved.gans, resolved.settings, strict=True)):
        rows.append(_gan_plan(resolved, row, replace(settings, device=device)))
        on_progress(i + 1, len(resolved.gans))
    slots = _slots(resolved)
    members = sum(row.snapshots for row in rows) + len(spec.members)
    return Plan(
        sweep=spec.name,
        rows=tuple(rows),
        members=members,
        steps=sum(row.steps for row in rows),
        images=members * resolved.count,
        slots=slots,
        training_seconds=sum(row.seconds for row in rows),
        wall_seconds=makespan([row.seconds for row in rows], slots),
        classifiers=spec.evaluate.repeats * len(spec.evaluate.strategies),
        disk_bytes=disk_bytes(resolved),
        free_bytes=free_bytes(storage),
        device=device,
        wants_gpu=wants_gpu,
    )


def _slots(resolved: Resolved) -> int:
    """Trials at once on this machine."""
    cluster, dataset = resolved.spec.cluster, resolved.dataset
    gpus, gpu_bytes = 1, None
    if torch.cuda.is_available():
        gpus = torch.cuda.device_count()
        gpu_bytes = min(torch.cuda.get_device_properties(i).total_memory for i in range(gpus))
    shares = []
    for row, settings in zip(resolved.gans, resolved.settings, strict=True):
        # Only a share by memory depends on the GAN, and its estimate takes a while.
        needs = cluster.gpus_per_trial == "auto" and gpu_bytes is not None
        memory = device_bytes(row, settings, dataset.shape, dataset.num_classes) if needs else 0
        shares.append(gpu_share(cluster, memory, gpu_bytes))
    # Shares by memory differ; with their mean the slots are right for the sweep as a whole.
    share = sum(shares) / len(shares) if shares else 0.0
    cpus = psutil.cpu_count(logical=True) or 1
    slots = max(1, slots_of(cluster.cpus_per_trial, share, cpus, gpus))
    return min(slots, cluster.max_concurrent or slots, max(1, len(shares)))


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
        memory_bytes=state_bytes(generator, discriminator) + grown,
        snapshot_bytes=FLOAT_BYTES * generator,
    )


def _measure(resolved: Resolved, row: zoo.GANSpec, settings: train.TrainSettings) -> float:
    """Seconds per step on one thread, without the first (median of a few)."""
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
