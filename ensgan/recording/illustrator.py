"""The pictures and pages of a recorded sweep: who makes them, and how a report is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ensgan.recording import views
from ensgan.store import RunStore
from ensgan.types import Front, FrontPoint, PoolScores, UInt8Array

REPORT = "report.html"
"""Name of the report among a sweep's files."""
DESCRIPTION = "mlflow.note.content"
"""Tag that MLflow's pages show as a run's description."""


class Illustrator(Protocol):
    """Makes the pictures and pages of a run; file names to contents."""

    def grid(self, title: str, rows: Sequence[tuple[str, UInt8Array]]) -> Mapping[str, bytes]:
        """Images in labelled rows: a row is a label and uint8 [n,H,W] or [n,H,W,C]."""
        ...

    def front(self, front: Front, selected: FrontPoint | None) -> Mapping[str, bytes]:
        """The Pareto front, interactive and static."""
        ...

    def pool(
        self, scores: PoolScores, front: Front, selected: FrontPoint | None
    ) -> Mapping[str, bytes]:
        """How the members overlap, and which of them the front uses."""
        ...

    def report(self, store: RunStore, run_id: str) -> bytes:
        """One page about a recorded sweep."""
        ...


def log_report(store: RunStore, run_id: str, manifest: Mapping[str, Any], page: bytes) -> None:
    """Store a sweep's report with its run, and link it from the run's description."""
    with tempfile.TemporaryDirectory(prefix="ensgan-report-") as folder:
        path = Path(folder) / REPORT
        path.write_bytes(page)
        store.log_file(run_id, path)
    text = views.description(manifest, run_id, store.page(run_id, REPORT))
    store.set_tags(run_id, {DESCRIPTION: text})
