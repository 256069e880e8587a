"""The outcome of a sweep, as its caller gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensgan.downstream import DownstreamTable
from ensgan.downstream.table import TESTED
from ensgan.sweep.records import MemberResult
from ensgan.types import Front, PoolScores, Selection
from ensgan.types.display import table_html


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
