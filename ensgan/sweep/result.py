"""What a sweep gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensgan.downstream import DownstreamTable
from ensgan.sweep.member_job import MemberResult
from ensgan.types import Front, PoolScores, Selection


@dataclass(frozen=True)
class SweepResult:
    """The outcome of a sweep.

    Attributes:
        run_id: of the parent run in the store, None when recording failed (``ensgan sync``).
        folder: the sweep's folder.
        members: every member, in pool order.
        scores, front, selected, table: results of the stages.
        ensemble: folder of the selected ensemble's artifact.
        seconds: by stage, with ``orchestration`` and ``total``.
        failed: GANs that failed, with the reason.
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

    def to_json(self) -> dict[str, Any]:
        """What the last event of ``ensgan sweep --json`` holds."""
        point = self.selected.point
        return {
            "run_id": self.run_id,
            "folder": str(self.folder),
            "members": len(self.members),
            "front": len(self.front),
            "distinct": self.front.distinct,
            "hypervolume": self.front.hypervolume,
            "selected": {
                **point.to_json(),
                "rule": self.selected.rule,
                "reason": self.selected.reason,
            },
            "downstream": self.table.to_json(),
            "ensemble": str(self.ensemble),
            "stages": dict(self.seconds),
            "failed": dict(self.failed),
        }
