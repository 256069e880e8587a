"""What trials will take: seconds, memory and share of a GPU, disk.

Figures measured in earlier trainings of the same row on the same data shape come first. Without
them, work is estimated from parameter counts and memory from the row's footprint.
"""

from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ensgan import train, zoo
from ensgan.config import ClusterSpec
from ensgan.errors import InputError
from ensgan.sweep.member_job import MemberJob
from ensgan.sweep.planning.measured import Measured
from ensgan.text import counted
from ensgan.train.cost import H200, Machine, StepWork, measure_machine, step_parts
from ensgan.types import ImageShape, row_of
from ensgan.zoo.footprint import Footprint, footprint

if TYPE_CHECKING:  # trials import this module, and have no use for the data sets
    from ensgan.sweep.planning.variations import Configuration
    from ensgan.sweep.resolving import Resolved

FLOAT_BYTES = 4
WORKSPACE = 1.3
"""Factor for convolution workspaces and a fragmented allocator."""
CONTEXT_BYTES = 700 * 2**20
"""A CUDA context with cuDNN and cuBLAS, once per process."""
SHARE_STEP = 0.05
"""Shares of a GPU are multiples of this."""
FEATURE_BYTES = 2048 * FLOAT_BYTES
"""Upper bound: the longest feature vector of the extractors."""
FITTED = "rates fitted to captured steps of three GANs (within a sixth)"
TABULATED = "NVIDIA H200"
"""The card whose rates are used where trials ask for GPUs and this machine has none."""


def with_costs(
    jobs: Sequence[MemberJob], shape: ImageShape, measured: Measured, *, memory: bool
) -> list[MemberJob]:
    """The jobs with ``effort`` and ``seconds_per_step`` filled in; ``memory_bytes`` if asked for.

    Efforts are seconds where a row was measured before, and in proportion to those elsewhere.
    """
    trainings = [(job.row, job.settings) for job in jobs]
    known = measured.look_up(trainings, shape, jobs[0].classes)
    estimates = [_estimated_effort(job, shape) for job in jobs]
    per_step = [entry.get("seconds_per_step") for entry in known]
    # The median, so that one training measured on a busy machine does not distort all others.
    ratios = [
        seconds * job.settings.steps / estimate
        for job, seconds, estimate in zip(jobs, per_step, estimates, strict=True)
        if seconds and estimate > 0
    ]
    ratio = statistics.median(ratios) if ratios else 1.0
    return [
        replace(
            job,
            effort=seconds * job.settings.steps if seconds else estimate * ratio,
            seconds_per_step=seconds,
            memory_bytes=int(
                entry.get("memory_bytes")
                or device_bytes(job.gan(), job.settings, shape, job.classes)
            )
            if memory
            else 0,
        )
        for job, entry, estimate, seconds in zip(jobs, known, estimates, per_step, strict=True)
    ]


def _estimated_effort(job: MemberJob, shape: ImageShape) -> float:
    """Parameters times the images that pass through them: crude, but it orders rows."""
    row, settings = job.gan(), job.settings
    generator, discriminator = zoo.count_parameters(row, shape, job.classes)
    optimiser = settings.optimiser(row)
    updates = optimiser.d_updates_per_step
    # A generator update runs both networks forward and backward; a discriminator update needs only
    # a forward pass of the generator, and sees real and generated images.
    passes = generator * (1 + 0.5 * updates) + discriminator * (1 + 2 * updates)
    return float(passes * optimiser.batch * settings.steps)


def step_works(
    gans: Sequence[Configuration],
    sizes: Mapping[str, Footprint],
    shape: ImageShape,
    classes: int,
    on_progress: Callable[[int, int], None],
) -> dict[str, StepWork]:
    """Work per step of every configuration, counted only for each GAN's largest variation.

    Counting takes a tenth of a second or more, too long for each of a thousand. The others are
    scaled from the largest: arithmetic by weights times images, memory traffic by activations.

    Args:
        sizes: of the configurations, by name.
        on_progress: called with the GANs counted and all of them.
    """
    largest: dict[str, Configuration] = {}
    for gan in sorted(gans, key=lambda gan: -sizes[gan.name].training_bytes):
        largest.setdefault(row_of(gan.name), gan)
    parts = {}
    for row, gan in largest.items():
        parts[row] = step_parts(gan.row, shape, classes, gan.settings)
        on_progress(len(parts), len(largest))
    works = {}
    for gan in gans:
        (rest, update), base = parts[row_of(gan.name)], largest[row_of(gan.name)]
        size, of = sizes[gan.name], sizes[base.name]
        steps = gan.settings.optimiser(gan.row)
        images = steps.batch / base.settings.optimiser(base.row).batch
        works[gan.name] = rest.plus(update, steps.d_updates_per_step).scaled(
            size.parameters / of.parameters * images, size.activation_bytes / of.activation_bytes
        )
    return works


class Rates:
    """Seconds per step: from an earlier training on this storage, else from counted operations.

    Args:
        resolved: the sweep.
        measured: of the storage.

    Attributes:
        device: whose rates count operations are divided by: ``cpu`` (one thread) or ``cuda`` of
            this machine or, where trials will run on GPUs and none is here, :data:`TABULATED`.
    """

    def __init__(self, resolved: Resolved, measured: Measured) -> None:
        self.resolved, self.measured = resolved, measured
        self.device = "cpu"
        if resolved.spec.cluster.gpus_per_trial:
            self.device = "cuda" if torch.cuda.is_available() else TABULATED
        self._machines: dict[str, Machine] = {}
        self._precisions: dict[str, None] = {}
        self._known = self._asked = 0

    def seconds_per_step(self, gan: Configuration, work: StepWork) -> float:
        """Seconds per step of a configuration whose steps do this work."""
        shape, classes = self.resolved.dataset.shape, self.resolved.dataset.num_classes
        (entry,) = self.measured.look_up([(gan.row.to_json(), gan.settings)], shape, classes)
        # Only trainings on GPUs record memory, which tells where this one was measured.
        is_here = bool(entry.get("memory_bytes")) == (self.device != "cpu")
        known = entry.get("seconds_per_step") if is_here else None
        precision = self._precision(gan.settings)
        self._precisions[precision + " (auto)" * (gan.settings.precision == "auto")] = None
        self._asked, self._known = self._asked + 1, self._known + (known is not None)
        return self._machine(precision).seconds(work) if known is None else known

    def _precision(self, settings: train.TrainSettings) -> str:
        if self.device == TABULATED:
            # What ``auto`` becomes on that card.
            return "bfloat16" if settings.precision == "auto" else settings.precision
        return replace(settings, device=self.device).settled(None).precision

    def _machine(self, precision: str) -> Machine:
        if self.device == TABULATED:
            return H200[precision]
        if precision not in self._machines:
            self._machines[precision] = _measured_machine(self.device, precision)
        return self._machines[precision]

    def basis(self) -> str:
        """What the seconds given so far rest on, one sentence; "" where none were given."""
        if not self._asked:
            return ""
        measured = f"{self._known} of {counted(self._asked, 'GAN')} as they trained here before"
        parts = [measured] if self._known else []
        if self._known < self._asked:
            rates = "what this machine computes in a second"
            if self.device == TABULATED:
                rates = f"{FITTED} of one {TABULATED}"
                if any(name.startswith("float32") for name in self._precisions):
                    rates += " (in float32: the rate of its products, no step was timed)"
            parts.append(
                f"{'the others' if parts else 'GANs'} by the operations of a step and {rates}"
            )
        return f"hours in {' and '.join(self._precisions)}: {', '.join(parts)}"


def _measured_machine(device: str, precision: str) -> Machine:
    """Rates of the GPU, or of one thread, which is what a trial has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measure_machine(device, precision)
    finally:
        torch.set_num_threads(threads)


def device_bytes(
    row: zoo.GANSpec, settings: train.TrainSettings, shape: ImageShape, classes: int
) -> int:
    """Memory a training takes on a GPU, estimated without computing anything."""
    sizes = footprint(row, shape, classes, batch=settings.optimiser(row).batch)
    # Mixed precision keeps most activations in half the bytes.
    seen = sizes.activation_bytes // (2 if settings.precision == "bfloat16" else 1)
    return int(sizes.state_bytes + WORKSPACE * seen) + CONTEXT_BYTES


def gpu_share(
    settings: ClusterSpec, memory_bytes: int, gpu_bytes: int | None, most: int | None = None
) -> float:
    """GPUs of one trial: as set, or (``auto``) the part of one that its memory needs.

    Args:
        settings: of the cluster.
        memory_bytes: that the trial needs, 0 where nobody knows.
        gpu_bytes: memory of the smallest GPU, None where there is none or nobody can say.
        most: trials that may share a GPU, where memory decides; None: as many as fit.
    """
    if settings.gpus_per_trial != "auto":
        return settings.gpus_per_trial
    if not gpu_bytes or not memory_bytes:
        return 1.0
    share = min(1.0, math.ceil(memory_bytes / gpu_bytes / SHARE_STEP) * SHARE_STEP)
    # Rounded down to Ray's resolution: ``most`` such shares together must not exceed one GPU.
    return share if most is None else max(share, math.floor(1e4 / most) / 1e4)


def local_gpus() -> tuple[int, int | None]:
    """GPUs of this machine, and the memory of the smallest; 0 and None without any."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    sizes = [torch.cuda.get_device_properties(card).total_memory for card in range(count)]
    return count, min(sizes, default=None)


def shares_gpus(settings: ClusterSpec) -> bool:
    """Whether several trials may share a GPU, so that their memory matters."""
    gpus = settings.gpus_per_trial
    return gpus == "auto" or 0 < gpus < 1


def slots_of(trial_cpus: float, trial_gpus: float, cpus: float, gpus: float) -> int:
    """How many trials fit onto a node with so many CPUs and GPUs at once.

    A share below 1 never spans two GPUs, so each GPU takes a whole number of trials.
    """
    fits = cpus / trial_cpus
    if trial_gpus:
        # The small terms below undo rounding errors of divisions such as 1 / 0.05.
        per_gpu = math.floor(1 / trial_gpus + 1e-9) if trial_gpus < 1 else 1 / trial_gpus
        fits = min(fits, gpus * per_gpu)
    return int(fits + 1e-9)


def disk_bytes(resolved: Resolved) -> int:
    """Bytes of snapshots, resume checkpoints, generated images and their features.

    Every snapshot is there once, and twice more when selected: in the ensemble's folder and in the
    recorded run.
    """
    shape, classes = resolved.dataset.shape, resolved.dataset.num_classes
    pixels = shape.channels * shape.size**2
    # External images lie there four times: samples, bank, artifact and recorded artifact.
    total = len(resolved.spec.members) * resolved.count * (4 * pixels + FEATURE_BYTES)
    for gan in resolved.configurations:
        generator, discriminator = zoo.count_parameters(gan.row, shape, classes)
        snapshots = 3 * gan.settings.snapshots * generator
        # Weights and Adam's two moments of both networks, and the averaged generator.
        checkpoint = 3 * (generator + discriminator) + generator
        images = gan.settings.snapshots * resolved.count * (pixels + FEATURE_BYTES)
        total += FLOAT_BYTES * (snapshots + checkpoint) + images
    return total


def free_bytes(path: Path) -> int:
    """Free space where ``path`` is or would be made."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def check_disk(resolved: Resolved, folder: Path) -> None:
    """Refuse a sweep that would fill the disk; files it has already written need no more space.

    Raises:
        InputError: not enough space is free.
    """
    needed, free = disk_bytes(resolved) - written_bytes(folder), free_bytes(folder)
    if needed > free:
        raise InputError(
            f"sweep '{resolved.spec.name}' needs about {needed / 2**20:,.0f} MB more and {folder} "
            f"has {free / 2**20:,.0f} MB free: make room, or choose another --storage"
        )


def written_bytes(folder: Path) -> int:
    """Total size of the files below a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
