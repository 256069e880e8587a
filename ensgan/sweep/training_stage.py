"""The pool of a sweep as it grows: members, losses and failures, told and kept as they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ensgan.errors import EnsganError
from ensgan.sweep.events import Event, StageClock
from ensgan.sweep.executor import Executor
from ensgan.sweep.external_member_job import OutsideJob, bring
from ensgan.sweep.member_job import MemberJob, MemberResult
from ensgan.sweep.planning.cost import Measured
from ensgan.types import ImageShape


class GrowingPool:
    """Runs the jobs of a pool and keeps what they report.

    Args:
        executor: where jobs run.
        clock: told of work and events.
        planned: members in all.
        manifest: where ``losses`` and ``failed`` of the sweep are read.
        save: writes values into the manifest.

    Attributes:
        members: finished ones by name, in the order they came.
        failed: GANs that failed, with the reason.
    """

    def __init__(
        self,
        executor: Executor,
        clock: StageClock,
        planned: int,
        manifest: Mapping[str, Any],
        save: Callable[..., None],
    ) -> None:
        self.executor, self.clock, self.planned, self.save = executor, clock, planned, save
        self.members: dict[str, MemberResult] = {}
        self.failed: dict[str, str] = dict(manifest["failed"])
        self.losses: dict[str, dict[str, int]] = manifest["losses"]
        self.beats: dict[str, Mapping[str, Any]] = {}

    def bring(self, jobs: Sequence[OutsideJob]) -> None:
        """Take in the generators from elsewhere.

        Raises:
            InputError: one of them cannot be used.
        """
        self.executor.map(bring, jobs, on_done=self._on_member)

    def train(self, jobs: Sequence[MemberJob], shape: ImageShape, measured: Measured) -> None:
        """Train the GANs; what they took is remembered for the next sweep's queue and shares."""
        if not jobs:
            return
        failed = self.executor.grow(jobs, on_member=self._on_member, on_event=self._on_event)
        self.failed.update(failed)
        for job in jobs:
            beat = self.beats.get(job.name, {})
            rate = beat.get("steps_per_second")
            measured.learn(
                job,
                shape,
                seconds_per_step=1 / rate if rate else None,
                memory_bytes=beat.get("gpu_memory_bytes"),
            )

    def in_order(self, names: Sequence[str]) -> tuple[MemberResult, ...]:
        """The finished ones among ``names``.

        Raises:
            EnsganError: fewer than the two that an ensemble needs.
        """
        members = tuple(self.members[name] for name in names if name in self.members)
        if len(members) < 2:
            reasons = [f"{gan}: {reason}" for gan, reason in self.failed.items()]
            raise EnsganError(
                "; ".join(
                    [f"only {len(members)} members were trained, an ensemble needs 2", *reasons]
                )
            )
        return members

    def _on_member(self, result: MemberResult) -> None:
        self.members[result.name] = result
        self.clock.work.extend(result.work)
        self.clock.on_event(
            Event(
                "member",
                {
                    "member": result.name,
                    "intra_d": round(result.intra_d, 4),
                    "density": round(result.density, 4),
                    "coverage": round(result.coverage, 4),
                    "health": list(result.health),
                    "done": len(self.members),
                    "of": self.planned,
                },
            )
        )
        self.save(members={name: each.to_json() for name, each in self.members.items()})

    def _on_event(self, event: Event) -> None:
        if event.kind == "progress" and "gan" in event.fields:
            self.beats[event.fields["gan"]] = event.fields
        elif event.kind == "lost":
            counts = self.losses.setdefault(event.fields["gan"], {"node": 0, "process": 0})
            counts[event.fields["kind"]] += 1
            self.save(losses=self.losses)
        elif event.kind == "failed":
            self.failed[event.fields["gan"]] = event.fields["error"]
            self.save(failed=dict(self.failed))
        self.clock.on_event(event)
