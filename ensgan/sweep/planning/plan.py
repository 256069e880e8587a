"""What a sweep would do and cost: the dry run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from ensgan import train, zoo
from ensgan.config import ClusterSpec, SweepSpec
from ensgan.config.vary import Value, searched
from ensgan.sweep.planning.cost import (
    FLOAT_BYTES,
    Measured,
    device_bytes,
    disk_bytes,
    free_bytes,
    gpu_share,
    slots_of,
    written_bytes,
)
from ensgan.sweep.planning.outlook import Outlook
from ensgan.sweep.resolving import Resolved, round_size
from ensgan.sweep.variations import Configuration
from ensgan.train.cost import H200, Machine, StepWork, measure_machine, step_work
from ensgan.zoo.footprint import footprint

TABULATED = "NVIDIA H200"
"""Whose rates stand in where trials ask for GPUs and this machine has none."""


@dataclass(frozen=True)
class GanPlan:
    """One trial.

    Attributes:
        steps: that are left to train.
        variation: values of the settings that the sweep varies.
        seconds_per_step: what a training on this storage took, else estimated from the counted
            operations of a step and the rates of this machine, a GPU or one thread, or of a table.
        seconds: of these steps.
        memory_bytes: estimated peak: weights, gradients, optimiser state, averaged weights and the
            activations of one backward pass.
        snapshot_bytes: of one generator file.
    """

    gan: str
    variation: Mapping[str, Value]
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
    """The whole sweep.

    Attributes:
        slots: trials at once on this machine: as many as its CPUs and the trials' shares of its
            GPUs (of one GPU where it has none) let run.
        training_seconds: of all trials together, each alone on its device; ``wall_seconds`` on the
            slots, where those that share a GPU share its speed. Training alone.
        device: whose rates were taken, ``cpu`` (one thread), ``cuda`` or, where trials will run on
            GPUs and none is here, ``NVIDIA H200``.
        wants_gpu: trials will run on GPUs.
        gpu_hours: that training takes, None on CPUs. What GANs of one process gain is not in it.
        remark: what the figures leave open, "" where nothing.
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
    gpu_hours: float | None
    remark: str = ""

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-able values."""
        return asdict(self)


def make_plan(
    resolved: Resolved,
    storage: Path,
    left: Outlook | None = None,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:
    """Count what every GAN computes and divide by what this machine does in a second.

    Nothing is trained, nothing is written.

    Args:
        resolved: the sweep.
        storage: where it would be kept.
        left: what of it is left to do; None for all.
        on_progress: called with the GANs counted and all of them.
    """
    spec = resolved.spec
    rows = []
    wants_gpu = bool(spec.cluster.gpus_per_trial)
    rates = _Rates(resolved, Measured(storage / "measured.json"))
    trainings = [
        (gan, gan.settings.steps if left is None else left.steps.get(gan.name, 0))
        for gan in resolved.configurations
    ]
    trainings = [training for training in trainings if training[1]]
    for i, (gan, steps) in enumerate(trainings):
        per_step = rates.seconds_per_step(gan)
        rows.append(_gan_plan(resolved, gan.row, gan.settings, steps, per_step))
        on_progress(i + 1, len(trainings))
    slots, cards = _slots(resolved)
    seconds = [row.seconds for row in rows]
    # Those that share a GPU are not faster in all than one after another, as far as is known here.
    wall = max(makespan(seconds, slots), sum(seconds) / cards if wants_gpu else 0.0)
    members = len(resolved.names if left is None else left.missing)
    written = written_bytes(storage / "sweeps" / spec.name) if left is not None else 0
    return Plan(
        sweep=spec.name,
        rows=tuple(rows),
        members=members,
        steps=sum(row.steps for row in rows),
        images=members * resolved.count,
        slots=slots,
        training_seconds=sum(seconds),
        wall_seconds=wall,
        classifiers=spec.evaluate.repeats * len(spec.evaluate.strategies),
        disk_bytes=max(0, disk_bytes(resolved) - written),
        free_bytes=free_bytes(storage),
        device=rates.device,
        wants_gpu=wants_gpu,
        gpu_hours=sum(seconds) / 3600 * whole_gpus(spec.cluster) if wants_gpu else None,
        remark=_remark(spec, rates.device == TABULATED),
    )


def whole_gpus(cluster: ClusterSpec) -> float:
    """GPUs that a trial has for itself; 1 where it has a part of one."""
    return 1.0 if cluster.gpus_per_trial == "auto" else max(1.0, cluster.gpus_per_trial)


class _Rates:
    """Seconds per step: measured on this storage, else of the counted operations."""

    def __init__(self, resolved: Resolved, measured: Measured) -> None:
        self.resolved, self.measured = resolved, measured
        self.device = "cpu"
        if resolved.spec.cluster.gpus_per_trial:
            self.device = "cuda" if torch.cuda.is_available() else TABULATED
        self._machines: dict[str, Machine] = {}
        self._counted: dict[Any, StepWork] = {}

    def seconds_per_step(self, gan: Configuration) -> float:
        """Of a configuration."""
        shape, classes = self.resolved.dataset.shape, self.resolved.dataset.num_classes
        known = self.measured.seconds_per_step(
            *(gan.row, gan.settings, shape, classes), on_gpu=self.device != "cpu"
        )
        if known is not None:
            return known
        if gan.work not in self._counted:
            self._counted[gan.work] = step_work(gan.row, shape, classes, gan.settings, quick=True)
        return self._machine(gan.settings).seconds(self._counted[gan.work])

    def _machine(self, settings: train.TrainSettings) -> Machine:
        if self.device == TABULATED:
            return H200["bfloat16" if settings.precision == "auto" else settings.precision]
        precision = replace(settings, device=self.device).settled(None).precision
        if precision not in self._machines:
            self._machines[precision] = _measured(self.device, precision)
        return self._machines[precision]


def _remark(spec: SweepSpec, lacks_gpu: bool) -> str:
    remarks = []
    if vary := searched(spec.train.vary):
        remarks.append(
            f"draws depend on results: {vary['search']} draws {round_size(vary['sample'])} "
            "configurations per GAN and round; those that are not drawn yet are quasi-random "
            "here, and costs are estimates from them"
        )
    if lacks_gpu:
        remarks.append(
            f"no GPU here: hours are those of one {TABULATED}, from a table (within a sixth where "
            "that was measured), slots those of one GPU: run --dry-run on a node that has one"
        )
    return "\n".join(remarks)


def _slots(resolved: Resolved) -> tuple[int, int]:
    """Trials at once on this machine, and its GPUs (one where it has none)."""
    cluster, dataset = resolved.spec.cluster, resolved.dataset
    gpus, gpu_bytes = 1, None
    if torch.cuda.is_available():
        gpus = torch.cuda.device_count()
        gpu_bytes = min(torch.cuda.get_device_properties(i).total_memory for i in range(gpus))
    most = None if cluster.gans_per_process == "auto" else cluster.gans_per_process
    shares = []
    # Only a share by memory depends on the GAN, and its estimate takes a while.
    by_memory = cluster.gpus_per_trial == "auto" and gpu_bytes is not None
    for gan in resolved.configurations:
        memory = 0
        if by_memory:
            memory = device_bytes(gan.row, gan.settings, dataset.shape, dataset.num_classes)
        shares.append(gpu_share(cluster, memory, gpu_bytes, most))
    # Shares by memory differ; with their mean the slots are right for the sweep as a whole.
    share = sum(shares) / len(shares) if shares else 0.0
    cpus = psutil.cpu_count(logical=True) or 1
    slots = max(1, slots_of(cluster.cpus_per_trial, share, cpus, gpus))
    return min(slots, cluster.max_concurrent or slots, max(1, len(shares))), gpus


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
    resolved: Resolved,
    row: zoo.GANSpec,
    settings: train.TrainSettings,
    steps: int,
    per_step: float,
) -> GanPlan:
    shape, classes = resolved.dataset.shape, resolved.dataset.num_classes
    batch = settings.optimiser(row).batch
    sizes = footprint(row, shape, classes, batch=batch)
    return GanPlan(
        gan=row.name,
        variation=dict(resolved.variations.get(row.name, {})),
        steps=steps,
        snapshots=settings.snapshots,
        batch=batch,
        seconds_per_step=per_step,
        seconds=per_step * steps,
        generator_parameters=sizes.generator_parameters,
        discriminator_parameters=sizes.discriminator_parameters,
        memory_bytes=sizes.training_bytes,
        snapshot_bytes=FLOAT_BYTES * sizes.generator_parameters,
    )
