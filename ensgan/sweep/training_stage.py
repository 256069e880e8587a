"""The jobs of a sweep's pool, and the pool as it fills: members, losses and failures are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ensgan.errors import EnsganError
from ensgan.sweep.events import Event, StageClock
from ensgan.sweep.executor import Executor
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.live.requests import Requests
from ensgan.sweep.member_job import MemberJob, purpose_seed
from ensgan.sweep.opening import OpenManifest, training_folders
from ensgan.sweep.planning.cost import shares_gpus, with_costs
from ensgan.sweep.planning.measured import Measured
from ensgan.sweep.records import MemberResult
from ensgan.sweep.resolving import Resolved


def member_jobs(resolved: Resolved, inputs: Inputs) -> list[MemberJob]:
    """One job per configuration of a GAN, in the order of the spec."""
    spec, folders = resolved.spec, training_folders(resolved, inputs.folder)
    return [
        MemberJob(
            name=gan.name,
            row=gan.row.to_json(),
            plugins=tuple(Path(plugin) for plugin in spec.train.plugins),
            settings=gan.settings,
            classes=resolved.dataset.num_classes,
            training_set=inputs.dataset.splits["train"],
            folder=folder,
            count=resolved.count,
            labels=spec.sample.labels,
            sample_seed=purpose_seed(spec.seed, "sample", gan.name),
            scoring=inputs.scoring,
        )
        for gan, folder in zip(resolved.configurations, folders, strict=True)
    ]


class PoolInProgress:
    """Runs the jobs of a pool and keeps what they report.

    Args:
        executor: opens what jobs run on; asked only when a job has to run.
        clock: takes the jobs' working time and passes events on.
        manifest: keeps members, losses and failures.
        resolved: the sweep. What its trainings take is kept for the next one's queue and shares.

    Attributes:
        members: finished ones by name, in the order they came.
        trained: jobs that are trained now, or were last.
    """

    def __init__(
        self,
        executor: Callable[[], Executor],
        clock: StageClock,
        manifest: OpenManifest,
        resolved: Resolved,
    ) -> None:
        self.executor, self.clock, self.manifest = executor, clock, manifest
        self.shape, self.cluster = resolved.dataset.shape, resolved.spec.cluster
        self.measured = Measured.beside(manifest.folder.path)
        self.members: dict[str, MemberResult] = {}
        self.trained: list[MemberJob] = []
        self._heartbeats: dict[str, Mapping[str, Any]] = {}

    def train(self, jobs: Sequence[MemberJob], requests: Requests | None = None) -> None:
        """Train the GANs.

        Args:
            jobs: all of them; those whose members are known are not run.
            requests: steering requests that may arrive meanwhile.

        Raises:
            SweepStoppedError: a request ended the sweep.
        """
        missing = self.missing(jobs)
        if not missing:
            return
        self.trained = list(missing)
        failed = self.executor().grow(
            missing, on_member=self.add, on_event=self._on_event, requests=requests
        )
        self.manifest.add_failures(failed)
        self.measured.learn([(job, self._took(job.name)) for job in self.trained], self.shape)

    def missing(self, jobs: Sequence[MemberJob]) -> list[MemberJob]:
        """Take in the members of finished jobs; returns the other jobs, with their costs.

        Args:
            jobs: all of them, since measured ones help to estimate the others.
        """
        unknown = set()
        for job in jobs:
            finished = job.finished(self.manifest.value.members)
            if finished is None:
                unknown.add(job.name)
            for member in finished or ():
                if member.name not in self.members:
                    self.add(member)
        if not unknown:
            return []
        # Not earlier: estimating costs builds every network, and imports for seconds.
        memory = shares_gpus(self.cluster)
        costed = with_costs(jobs, self.shape, self.measured, memory=memory)
        return [job for job in costed if job.name in unknown]

    def _took(self, gan: str) -> dict[str, float | None]:
        """What the last heartbeat of a GAN says of its cost."""
        beat = self._heartbeats.get(gan, {})
        rate = beat.get("steps_per_second")
        return {
            "seconds_per_step": 1 / rate if rate else None,
            "memory_bytes": beat.get("gpu_memory_bytes"),
        }

    def in_order(self, names: Sequence[str]) -> tuple[MemberResult, ...]:
        """The finished ones among ``names``.

        Raises:
            EnsganError: fewer than the two that an ensemble needs.
        """
        members = tuple(self.members[name] for name in names if name in self.members)
        if len(members) < 2:
            failed = self.manifest.value.failed
            few = f"only {len(members)} members were trained, an ensemble needs 2"
            raise EnsganError("; ".join([few, *(f"{gan}: {why}" for gan, why in failed.items())]))
        return members

    def add(self, result: MemberResult) -> None:
        """A member is finished."""
        self.members[result.name] = result
        self.clock.work.extend(result.work)
        fields = {
            "member": result.name,
            "intra_d": round(result.intra_d, 4),
            "density": round(result.density, 4),
            "coverage": round(result.coverage, 4),
            "health": list(result.health),
            "done": len(self.members),
            "of": self.manifest.value.planned,
        }
        self.clock.on_event(Event("member", fields))
        self.manifest.add_member(result)

    def _on_event(self, event: Event) -> None:
        self.manifest.folder.require_in_place()
        if event.kind == "progress" and "gan" in event.fields:
            self._heartbeats[event.fields["gan"]] = event.fields
        elif event.kind == "lost":
            self.manifest.add_loss(event.fields["gan"], event.fields["kind"])
        elif event.kind == "retried":
            self.manifest.retry(event.fields["gan"])
        elif event.kind == "failed":
            self.manifest.add_failures({event.fields["gan"]: event.fields["error"]})
        self.clock.on_event(event)
