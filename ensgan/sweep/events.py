"""What a sweep tells its caller: events and times while it runs, then its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ensgan.sweep.records import Interval, MemberResult

if TYPE_CHECKING:  # numpy comes late: `ensgan status` imports events too
    from ensgan.downstream import DownstreamTable
    from ensgan.types import Front, PoolScores, Selection


@dataclass(frozen=True)
class Event:
    """One thing that happened: a kind and JSON-able fields.

    Kinds: ``folder`` (the sweep's; always the first), ``plan`` (trials and slots), ``stage`` (state
    start/done/cached), ``progress``, ``member``, ``failed``, ``retried``, ``lost`` (a trial's
    process or node; the trial is started again), ``asked`` (a steering request), ``held`` (GANs
    that such requests paused or stopped), ``stopped`` (before the last snapshot), ``budget``
    (hours that trials have taken), ``strategy``, ``waits`` (``for`` what; empty: no longer),
    ``warning``, ``done``.
    """

    kind: str
    fields: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """One flat object, ``event`` first."""
        return {"event": self.kind, **self.fields}


def warning(message: str) -> Event:
    """Something that a person should know, and that ends nothing."""
    return Event("warning", {"message": message})


OnEvent: TypeAlias = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Do nothing with an event."""


@dataclass
class StageClock:
    """Wall time of the stages and of the real work in them.

    ``work`` collects the intervals in which some process trained, sampled, embedded, scored,
    searched or classified. Wall time outside of their union is orchestration.
    """

    on_event: OnEvent = ignore
    seconds: dict[str, float] = field(default_factory=dict)
    work: list[Interval] = field(default_factory=list)
    started: float = field(default_factory=time.time)

    @contextmanager
    def stage(self, name: str, *, is_work: bool = False) -> Iterator[None]:
        """Time one stage; ``is_work`` counts the whole of it as real work."""
        self.on_event(Event("stage", {"stage": name, "state": "start"}))
        begin = time.time()
        yield
        end = time.time()
        self.seconds[name] = self.seconds.get(name, 0.0) + end - begin
        if is_work:
            self.work.append((begin, end))
        self.on_event(
            Event("stage", {"stage": name, "state": "done", "seconds": round(end - begin, 3)})
        )

    def summary(self) -> dict[str, float]:
        """Seconds by stage, then ``orchestration`` and ``total``."""
        now = time.time()
        total = now - self.started
        covered = union_seconds([(max(a, self.started), min(b, now)) for a, b in self.work])
        values = {**self.seconds, "orchestration": total - covered, "total": total}
        return {name: round(value, 3) for name, value in values.items()}


def union_seconds(intervals: list[Interval]) -> float:
    """Length of the union of intervals."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """The outcome of a sweep.

    Attributes:
        run_id: of the parent run in the store, None when recording failed (``ensgan sync``).
        folder: the sweep's folder.
        members: every member, in pool order.
        scores, front, selected, table: results of the stages.
        ensemble: folder of the selected ensemble's artifact.
        seconds: by stage over all sessions, with ``orchestration`` and ``total``.
        failed: GANs that failed, with the reason.
        cautions: what is wrong with G* or the table, a sentence each.
    """

    run_id: str | None
    folder: Path
    members: tuple[MemberResult, ...]
    scores: PoolScores
    front: Front
    selected: Selection
    table: DownstreamTable
    ensemble: Path
    seconds: Mapping[str, float]
    failed: Mapping[str, str]
    cautions: tuple[str, ...] = ()

    def __repr__(self) -> str:
        chosen = ", ".join(self.selected.point.members)
        return f"SweepResult(run {self.run_id}, {len(self.members)} members, G* {chosen})"

    def _repr_html_(self) -> str:
        """The verdict on the chosen ensemble and the downstream table."""
        from ensgan.downstream.table import TESTED
        from ensgan.types.display import table_html

        metrics = [name for name in TESTED if all(name in row.metrics for row in self.table)]
        rows = [[row.strategy, *(row.metrics[name].mean for name in metrics)] for row in self.table]
        return table_html(["strategy", *metrics], rows, f"{self!r}: {self.selected.reason}")

    def to_json(self) -> dict[str, Any]:
        """The content of the last event of ``ensgan sweep --json``."""
        return {
            "run_id": self.run_id,
            "folder": str(self.folder),
            "members": len(self.members),
            "front": len(self.front),
            "distinct": self.front.distinct,
            "hypervolume": self.front.hypervolume,
            "selected": self.selected.to_json(),
            "downstream": self.table.to_json(),
            "ensemble": str(self.ensemble),
            "stages": dict(self.seconds),
            "failed": dict(self.failed),
            "cautions": list(self.cautions),
        }
