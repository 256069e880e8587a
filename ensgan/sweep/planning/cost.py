"""What a trial will take: its place in the queue and its share of a GPU follow from it.

Measured figures of earlier trainings of the same row on the same data shape come first; where
there are none, work is estimated from parameter counts and memory from a forward pass on torch's
meta device, which computes nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ensgan import train, zoo
from ensgan.errors import DataError, StoreError
from ensgan.files import content_key, read_json, write_json
from ensgan.sweep.member_job import MemberJob
from ensgan.types import ImageShape
from ensgan.zoo.backbones.base import Player
from ensgan.zoo.build import build_discriminator, build_generator

FLOAT_BYTES = 4
WORKSPACE = 1.3
"""Factor for convolution workspaces and a fragmented allocator."""
CONTEXT_BYTES = 700 * 2**20
"""A CUDA context with cuDNN and cuBLAS, once a process."""


@dataclass(frozen=True)
class Measured:
    """What trainings on this storage have taken, by row and data shape.

    Attributes:
        path: a JSON file; a missing or unreadable one knows nothing.
    """

    path: Path

    def look_up(self, job: MemberJob, shape: ImageShape) -> Mapping[str, Any]:
        """``seconds_per_step`` and (on a GPU) ``memory_bytes``, or nothing."""
        return self._entries().get(_key(job, shape), {})

    def learn(self, job: MemberJob, shape: ImageShape, **values: float | None) -> None:
        """Remember figures of a training; a full disk is no reason to fail."""
        entries = self._entries()
        kept = {name: value for name, value in values.items() if value}
        if not kept:
            return
        entries[_key(job, shape)] = {**entries.get(_key(job, shape), {}), "gan": job.name, **kept}
        try:
            write_json(self.path, entries)
        except StoreError:
            return

    def _entries(self) -> dict[str, dict[str, Any]]:
        try:
            entries = read_json(self.path)
        except DataError:
            return {}
        return entries if isinstance(entries, dict) else {}


def _key(job: MemberJob, shape: ImageShape) -> str:
    settings = job.settings
    return content_key(
        job.row, settings.batch, settings.d_updates, settings.precision, shape, job.classes
    )


def with_costs(
    jobs: Sequence[MemberJob], shape: ImageShape, measured: Measured, *, memory: bool
) -> list[MemberJob]:
    """The jobs with ``effort`` and, if ``memory`` is asked for, ``memory_bytes`` filled in.

    Efforts are seconds where a row was measured before, and in proportion to those elsewhere.
    """
    known = [measured.look_up(job, shape) for job in jobs]
    estimates = [_estimated_effort(job, shape) for job in jobs]
    seconds = [
        found["seconds_per_step"] * job.settings.steps if "seconds_per_step" in found else None
        for job, found in zip(jobs, known, strict=True)
    ]
    ratios = [s / e for s, e in zip(seconds, estimates, strict=True) if s is not None and e > 0]
    ratio = statistics.median(ratios) if ratios else 1.0
    return [
        replace(
            job,
            effort=estimate * ratio if own is None else own,
            memory_bytes=int(found.get("memory_bytes") or device_bytes(job, shape))
            if memory
            else 0,
        )
        for job, found, estimate, own in zip(jobs, known, estimates, seconds, strict=True)
    ]


def _estimated_effort(job: MemberJob, shape: ImageShape) -> float:
    """Parameters times images seen by them: a crude measure that orders rows."""
    row, settings = job.gan(), job.settings
    generator, discriminator = zoo.count_parameters(row, shape, job.classes)
    optimiser = settings.optimiser(row)
    updates = optimiser.d_updates_per_step
    passes = generator * (1 + 0.5 * updates) + discriminator * (1 + 2 * updates)
    return float(passes * optimiser.batch * settings.steps)


def device_bytes(job: MemberJob, shape: ImageShape) -> int:
    """Memory a training of the job takes on a GPU, estimated without computing anything."""
    row, settings = job.gan(), job.settings
    optimiser = settings.optimiser(row)
    generator, discriminator = zoo.count_parameters(row, shape, job.classes)
    # Weights, gradients and Adam's two moments of both networks, and the averaged generator.
    held = FLOAT_BYTES * (4 * (generator + discriminator) + generator)
    seen = activation_bytes(row, shape, job.classes, optimiser.batch, settings)
    return int(held + WORKSPACE * seen) + CONTEXT_BYTES


def activation_bytes(
    row: zoo.GANSpec,
    shape: ImageShape,
    classes: int,
    batch: int,
    settings: train.TrainSettings | None = None,
) -> int:
    """What autograd keeps for one generator update (the largest graph of a step)."""
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[id(storage)] = storage
        return tensor

    with torch.device("meta"):
        generator = build_generator(row, shape, classes, 0)
        discriminator = build_discriminator(row, shape, classes, 0)
        latents = torch.empty(batch, generator.latent_dim)
        labels = torch.zeros(batch, dtype=torch.int64)
        codes = torch.empty(batch, row.code_dim) if row.info_code is not None else None
        noise = [torch.empty(batch, 1, size, size) for size in generator.noise_sizes]
        generator.prepare(Player.GENERATOR)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = discriminator(
                generator(latents, labels, codes, noise), row.conditioning.fake_targets(labels)
            )
        del output
    held = {
        id(parameter.untyped_storage())
        for network in (generator, discriminator)
        for parameter in network.parameters()
    }
    total = sum(storage.nbytes() for key, storage in storages.items() if key not in held)
    return total // 2 if settings is not None and settings.precision == "bfloat16" else total
