"""What a sweep would do and cost: the dry run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from ensgan import train, zoo
from ensgan.config import ClusterSpec
from ensgan.sweep.inputs import Resolved
from ensgan.sweep.planning.disk import FLOAT_BYTES, disk_bytes, free_bytes
from ensgan.train.cost import Machine, measure_machine, step_work
from ensgan.zoo.footprint import footprint


@dataclass(frozen=True)
class GanPlan:
    """One trial.

    Attributes:
        seconds_per_step: estimated from the counted operations of a step and the rates of this
            machine: a GPU, or one thread.
        seconds: of the whole training.
        memory_bytes: estimated peak: weights, gradients, optimiser state, averaged weights and the
            activations of one backward pass.
        snapshot_bytes: of one generator file.
    """

    gan: str
    steps: int
    snapshots: int
    batch: int
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
        device: whose rates were measured, ``cpu`` (one thread) or ``cuda``.
        wants_gpu: trials will run on GPUs.
        gpus: of this machine, taken as 1 where a sweep wants GPUs and there is none; 0 otherwise.
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
    gpus: int

    @property
    def sentence(self) -> str:
        """The plan in words."""
        fits = "" if self.disk_bytes <= self.free_bytes else " – NOT ENOUGH"
        return (
            f"{self.sweep}: {self.members} members of {len(self.rows)} GANs, {self.steps:,} steps, "
            f"{self.images:,} images to generate, {self.classifiers} classifiers to train\n"
            f"training about {_duration(self.wall_seconds)} on {self.slots} slots "
            f"({_duration(self.training_seconds)} {self._unit}), "
            f"disk {self.disk_bytes / 2**20:,.0f} MB of {self.free_bytes / 2**30:,.0f} GB free"
            f"{fits}{self._remark}"
        )

    @property
    def _unit(self) -> str:
        return "of a GPU in all" if self.device == "cuda" else "in all"

    @property
    def _remark(self) -> str:
        if not self.wants_gpu or self.device == "cuda":
            return ""
        return (
            "\nno GPU here: times are of one CPU thread, slots those of one GPU; the times of the "
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
    """Count what every GAN computes, measure what this machine does in a second, and divide.

    Nothing is trained, nothing is written.
    """
    spec = resolved.spec
    rows = []
    wants_gpu = bool(spec.cluster.gpus_per_trial)
    device = "cuda" if wants_gpu and torch.cuda.is_available() else "cpu"
    machines: dict[str, Machine] = {}
    for i, (row, settings) in enumerate(zip(resolved.gans, resolved.settings, strict=True)):
        precision = replace(settings, device=device).settled(None).precision
        if precision not in machines:
            machines[precision] = _measured(device, precision)
        rows.append(_gan_plan(resolved, row, settings, machines[precision]))
        on_progress(i + 1, len(resolved.gans))
    gpus = max(1, torch.cuda.device_count()) if wants_gpu else 0
    if slots is None:
        slots = cluster_slots(spec.cluster, psutil.cpu_count(logical=True) or 1, gpus)
    slots = min(slots, spec.cluster.max_concurrent or slots, max(1, len(rows)))
    seconds = [row.seconds for row in rows]
    # Trials that share a GPU take turns on it: they are no faster than one after another.
    wall = max(makespan(seconds, slots), sum(seconds) / gpus if gpus else 0.0)
    members = sum(row.snapshots for row in rows) + len(spec.members)
    images = members * resolved.count
    return Plan(
        sweep=spec.name,
        rows=tuple(rows),
        members=members,
        steps=sum(row.steps for row in rows),
        images=images,
        slots=slots,
        training_seconds=sum(seconds),
        wall_seconds=wall,
        classifiers=spec.evaluate.repeats * len(spec.evaluate.strategies),
        disk_bytes=disk_bytes(resolved),
        free_bytes=free_bytes(storage),
        device=device,
        wants_gpu=wants_gpu,
        gpus=gpus,
    )


def cluster_slots(settings: ClusterSpec, cpus: int, gpus: int) -> int:
    """How many trials run at once on a machine: as many as its CPUs and GPUs have shares for.

    Args:
        settings: what a trial asks for; an ``auto`` share, known only at the start of the sweep,
            counts as a whole GPU.
        cpus, gpus: of the machine.
    """
    slots = int(cpus // settings.cpus_per_trial)
    share = 1.0 if settings.gpus_per_trial == "auto" else settings.gpus_per_trial
    if share > 0:
        # A trial's share lies on one card; several cards go to one trial whole.
        slots = min(slots, gpus * int(1 / share) if share <= 1 else int(gpus // share))
    return max(1, slots)


def makespan(seconds: list[float], slots: int) -> float:
    """Wall time of jobs on equal slots, the longest first."""
    loads = [0.0] * slots
    for job in sorted(seconds, reverse=True):
        loads[loads.index(min(loads))] += job
    return max(loads)


def _measured(device: str, precision: str) -> Machine:
    """Rates of one thread, as a trial has it, or of the GPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measure_machine(device, precision)
    finally:
        torch.set_num_threads(threads)


def _gan_plan(
    resolved: Resolved, row: zoo.GANSpec, settings: train.TrainSettings, machine: Machine
) -> GanPlan:
    shape, classes = resolved.dataset.shape, resolved.dataset.num_classes
    batch = settings.optimiser(row).batch
    sizes = footprint(row, shape, classes, batch=batch)
    per_step = machine.seconds(step_work(row, shape, classes, settings, quick=True))
    return GanPlan(
        gan=row.name,
        steps=settings.steps,
        snapshots=settings.snapshots,
        batch=batch,
        seconds_per_step=per_step,
        seconds=per_step * settings.steps,
        generator_parameters=sizes.generator_parameters,
        discriminator_parameters=sizes.discriminator_parameters,
        memory_bytes=sizes.training_bytes,
        snapshot_bytes=FLOAT_BYTES * sizes.generator_parameters,
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
