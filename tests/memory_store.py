"""The tests' own store: runs in memory. It keeps the same contract as those of the package."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ensgan.errors import InputError
from ensgan.store.base import RunStore, unknown_run
from ensgan.store.record import (
    TAG_KIND,
    TAG_PARENT,
    Batch,
    LocalFiles,
    RunRecord,
    RunStatus,
    status_named,
)


class MemoryStore(RunStore):
    """Runs in this process's memory, their files in a temporary folder.

    Everything is gone with the object. ``history`` and ``datasets`` hold, by run ID, every row
    logged and every data set named.
    """

    def __init__(self) -> None:
        self._records: dict[str, RunRecord] = {}
        self._steps: dict[tuple[str, str], int] = {}
        self._models: dict[str, list[str]] = {}
        self._aliases: dict[tuple[str, str], str] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="ensgan-runs-")
        self.history: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self.datasets: dict[str, list[dict[str, object]]] = {}

    @property
    def uri(self) -> str:
        """``memory:`` — there is no other address."""
        return "memory:"

    def prepare(self) -> None:
        """Nothing to do."""

    def log_dataset(
        self, run_id: str, *, name: str, digest: str, source: str, sizes: Mapping[str, int]
    ) -> None:
        """See :meth:`RunStore.log_dataset`."""
        self.get(run_id)
        facts = {"name": name, "digest": digest, "source": source, "sizes": dict(sizes)}
        self.datasets.setdefault(run_id, []).append(facts)

    def finish(self, run_id: str, status: RunStatus = "finished") -> None:
        """See :meth:`RunStore.finish`."""
        self._records[run_id] = replace(self.get(run_id), status=status_named(status))

    def get(self, run_id: str) -> RunRecord:
        """See :meth:`RunStore.get`."""
        if run_id not in self._records:
            raise unknown_run(run_id, self.uri)
        return self._records[run_id]

    def page(self, run_id: str, path: str = "") -> str:
        """See :meth:`RunStore.page`; there are no pages."""
        return ""

    def register(self, run_id: str, name: str, alias: str) -> int:
        """See :meth:`RunStore.register`."""
        self.get(run_id)
        versions = self._models.setdefault(name, [])
        if run_id not in versions:
            versions.append(run_id)
        self._aliases[name, alias] = run_id
        return versions.index(run_id) + 1

    def registered(
        self, name: str, *, alias: str | None = None, version: str | None = None
    ) -> str | None:
        """See :meth:`RunStore.registered`."""
        if alias is not None:
            return self._aliases.get((name, alias))
        versions = dict(enumerate(self._models.get(name, ()), 1))
        return versions.get(int(version or 0))

    def serve_pages(self, port: int, on_start: Callable[[str], object]) -> int:
        """See :meth:`RunStore.serve_pages`; there are no pages."""
        raise InputError(f"{self.uri} has no pages: name another --storage or --uri")

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        # Runs made within one clock tick keep their order.
        started = datetime.now(timezone.utc) + timedelta(microseconds=len(self._records))
        run_id, parent = uuid.uuid4().hex, tags.get(TAG_PARENT)
        self._records[run_id] = RunRecord(run_id, name, tags[TAG_KIND], "running", started, parent)
        self.history[run_id] = []
        self._send(run_id, Batch(tags=tags))
        return run_id

    def _send(self, run_id: str, batch: Batch) -> None:
        record = self.get(run_id)
        last = dict(record.metrics)
        for step, metrics in batch.rows:
            for key, value in metrics.items():
                if step >= self._steps.get((run_id, key), step):
                    self._steps[run_id, key] = step
                    last[key] = float(value)
            self.history[run_id].append((step, {key: float(v) for key, v in metrics.items()}))
        visible = {key: tag for key, tag in batch.tags.items() if not key.startswith("mlflow.")}
        self._records[run_id] = replace(
            record,
            params={**record.params, **batch.params},
            metrics=last,
            tags={**record.tags, **visible},
        )

    def _tagged(self, tag: str, value: str) -> list[RunRecord]:
        by_parent = tag == TAG_PARENT
        return [
            record
            for record in self._records.values()
            if (record.parent if by_parent else record.tags.get(tag)) == value
        ]

    def _files(self, run_id: str) -> LocalFiles:
        self.get(run_id)
        return LocalFiles(Path(self._folder.name) / run_id)
