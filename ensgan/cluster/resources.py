"""How much of a machine each trial gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ensgan.config import ClusterSpec
from ensgan.errors import InputError
from ensgan.sweep.member_job import MemberJob

STEP = 0.05
"""Shares of a GPU are multiples of this."""
RETRY_FACTOR = 2.0
"""A trial that ran out of memory is tried again with this many times its share."""


@dataclass(frozen=True)
class Order:
    """One trial to run.

    Attributes:
        gan: of which job.
        cpus, gpus: what Ray reserves for it; below 1, GPUs are shared.
        until: members after which it ends; None: all.
    """

    gan: str
    cpus: float
    gpus: float
    until: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        """What the trial is told."""
        return asdict(self)

    @property
    def share(self) -> float:
        """What an hour of it costs: GPUs, or CPUs where it gets none."""
        return self.gpus or self.cpus

    def enlarged(self) -> Order | None:
        """With a larger share of a GPU; None when it has a whole one already."""
        if self.gpus >= 1:
            return None
        return replace(self, gpus=min(1.0, self.gpus * RETRY_FACTOR))


def orders(
    jobs: Sequence[MemberJob], settings: ClusterSpec, gpu_bytes: int | None
) -> tuple[Order, ...]:
    """What to run, in this order: by priority, then the longest first.

    Args:
        jobs: with their efforts.
        settings: of the cluster.
        gpu_bytes: memory of the smallest GPU; None when there is none or nobody can say.
    """
    ranked = sorted(jobs, key=lambda job: (-settings.priority.get(job.name, 0), -job.effort))
    return tuple(
        Order(job.name, settings.cpus_per_trial, gpu_share(job, settings, gpu_bytes))
        for job in ranked
    )


def gpu_share(job: MemberJob, settings: ClusterSpec, gpu_bytes: int | None) -> float:
    """GPUs of one trial: as set, or (``auto``) the part of one that its memory needs."""
    if settings.gpus_per_trial != "auto":
        return settings.gpus_per_trial
    if not gpu_bytes or not job.memory_bytes:
        return 1.0
    return min(1.0, math.ceil(job.memory_bytes / gpu_bytes / STEP) * STEP)


def check_satisfiable(
    wanted: Sequence[Order], nodes: Sequence[dict[str, float]], *, may_grow: bool
) -> None:
    """Refuse what no node can ever give: Ray would wait for it in silence.

    Args:
        wanted: the trials.
        nodes: resources of every living node.
        may_grow: an autoscaler may add nodes, so only the absence of all nodes is an error.

    Raises:
        InputError: names the resource, what is asked for and what there is.
    """
    for order in wanted:
        for resource, amount in (("CPU", order.cpus), ("GPU", order.gpus)):
            most = max((node.get(resource, 0.0) for node in nodes), default=0.0)
            if amount > most and not may_grow:
                raise InputError(
                    f"a trial asks for {amount:g} {resource}, the cluster's largest node has "
                    f"{most:g}: change cluster.{resource.lower()}s_per_trial"
                )


def slots(order: Order, nodes: Sequence[dict[str, float]]) -> int:
    """How many trials like this run at once."""
    total = 0
    for node in nodes:
        fits = [node.get("CPU", 0.0) / order.cpus]
        if order.gpus:
            per_gpu = math.floor(1 / order.gpus + 1e-9) if order.gpus < 1 else 1 / order.gpus
            fits.append(node.get("GPU", 0.0) * per_gpu)
        total += int(min(fits) + 1e-9)
    return max(1, total)
