"""The resources that trials and tasks reserve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ensgan.config import ClusterSpec
from ensgan.errors import InputError
from ensgan.sweep.events import Event
from ensgan.sweep.executor import Needs
from ensgan.sweep.member_job import MemberJob
from ensgan.sweep.planning.cost import gpu_share, slots_of
from ensgan.types import row_of

RETRY_FACTOR = 2.0
"""A trial that ran out of memory is tried again with this many times its share."""


@dataclass(frozen=True)
class TrialRequest:
    """One trial to run.

    Attributes:
        gan: of which job.
        cpus, gpus: what Ray reserves for it; below 1, GPUs are shared.
    """

    gan: str
    cpus: float
    gpus: float

    @property
    def config(self) -> dict[str, Any]:
        """The trial's configuration as Tune passes it to the trial."""
        return asdict(self)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> TrialRequest:
        """The request of a trial's configuration, which may hold more."""
        return cls(config["gan"], config["cpus"], config["gpus"])

    @property
    def share(self) -> float:
        """What one hour of it counts: its GPUs, or its CPUs if it gets no GPU."""
        return self.gpus or self.cpus

    def enlarged(self) -> TrialRequest | None:
        """With a larger share of a GPU; None when it has a whole one already."""
        # Alone on its card a trial has all the memory: trying again would fail in the same way.
        if self.gpus >= 1:
            return None
        return replace(self, gpus=min(1.0, self.gpus * RETRY_FACTOR))


def trial_requests(
    jobs: Sequence[MemberJob],
    settings: ClusterSpec,
    gpu_bytes: int | None,
    most: int | None = None,
) -> tuple[TrialRequest, ...]:
    """What to run, ordered by priority and then by length, the longest first.

    A long trial that starts last would run alone at the end while other slots idle.

    Args:
        jobs: with their efforts.
        settings: of the cluster.
        gpu_bytes: memory of the smallest GPU; None when there is none or nobody can say.
        most: trials that may share a GPU where their memory decides.
    """
    # Sorting is stable: equal GANs keep the order of the sweep file, in every session.
    rank = ranks(jobs, settings)
    ranked = sorted(jobs, key=lambda job: (-rank[job.name], -job.effort))
    return tuple(
        TrialRequest(
            job.name,
            settings.cpus_per_trial,
            gpu_share(settings, job.memory_bytes, gpu_bytes, most),
        )
        for job in ranked
    )


def plan_event(trials: Sequence[TrialRequest], slots: int, jobs: Sequence[MemberJob]) -> Event:
    """What is going to run, for estimates of the time it takes."""
    efforts = {job.name: job.effort for job in jobs}
    shares = {each.gan: {"share": each.share, "effort": efforts[each.gan]} for each in trials}
    is_on_gpus = any(each.gpus for each in trials)
    return Event("plan", {"slots": slots, "gpus": is_on_gpus, "trials": shares})


def ranks(jobs: Sequence[MemberJob], settings: ClusterSpec) -> dict[str, int]:
    """Priorities by job; a GAN's priority applies to all its variations."""
    return {job.name: settings.priority.get(row_of(job.name), 0) for job in jobs}


def check_fits(
    what: str, needs: Needs | TrialRequest, nodes: Sequence[Mapping[str, float]], remedy: str
) -> None:
    """Refuse what no node can ever run: Ray would wait for one in silence.

    Args:
        what: has the needs.
        nodes: resources of every living node.
        remedy: how to ask for less; ``{}`` in it becomes the resource's name.

    Raises:
        InputError: no node has that much, or none has CPUs and GPUs together.
    """
    gpus = needs.gpus or 0.0
    for resource, amount in (("CPU", needs.cpus), ("GPU", gpus)):
        # Of one node, not of the cluster: a trial or task never spans two.
        most = max((node.get(resource, 0.0) for node in nodes), default=0.0)
        if amount > most:
            raise InputError(
                f"{what} asks for {amount:g} {resource}, the cluster's largest node has {most:g}: "
                + remedy.format(resource.lower())
            )
    if not task_slots(needs, nodes):
        raise InputError(
            f"{what} asks for {needs.cpus:g} CPU and {gpus:g} GPU, and no node of the cluster has "
            "both: " + remedy.format("cpu")
        )


def reserved(needs: Needs, nodes: Sequence[Mapping[str, float]]) -> Needs:
    """What a task can reserve here: no GPU where there is none, no more memory than nodes have.

    Args:
        needs: with a share of a GPU.
        nodes: resources of every living node.
    """
    has_gpus = any(node.get("GPU", 0.0) for node in nodes)
    # A machine with less memory than asked for then runs one task at a time instead of none.
    most = int(max((node.get("memory", 0.0) for node in nodes), default=0))
    return replace(needs, gpus=needs.gpus if has_gpus else 0.0, memory=min(needs.memory, most))


def task_slots(needs: Needs | TrialRequest, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many such tasks or trials the CPUs and GPUs of the nodes hold at once."""
    return sum(
        slots_of(needs.cpus, needs.gpus or 0.0, node.get("CPU", 0.0), node.get("GPU", 0.0))
        for node in nodes
    )
