"""A store in memory: for tests, trial runs and Python sessions without a tracking server."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType

from ensgan.errors import InputError
from ensgan.store.base import (
    HistoryRow,
    RunRecord,
    RunStatus,
    as_text,
    check_keys,
    matching,
    sort_runs,
    status_named,
    unknown_run,
)
from ensgan.store.folders import add_file, add_folder, fetch_folder, read_file, sizes

_NOTHING: Mapping[str, str] = MappingProxyType({})


class MemoryStore:
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

    def create_run(
        self,
        name: str,
        *,
        kind: str,
        parent: str | None = None,
        params: Mapping[str, object] = _NOTHING,
        tags: Mapping[str, str] = _NOTHING,
    ) -> str:
        """See :meth:`RunStore.create_run`."""
        check_keys("parameter", params)
        check_keys("tag", tags)
        if parent is not None:
            self.get(parent)
        # Runs made within one clock tick keep their order.
        started = datetime.now(timezone.utc) + timedelta(microseconds=len(self._records))
        record = RunRecord(
            run_id=uuid.uuid4().hex,
            name=name,
            kind=kind,
            status="running",
            started=started,
            parent=parent,
            params=as_text(params),
        )
        self._records[record.run_id] = record
        self.history[record.run_id] = []
        MemoryStore.set_tags(self, record.run_id, {"ensgan.kind": kind, **tags})
        return record.run_id

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """See :meth:`RunStore.log_params`."""
        check_keys("parameter", params)
        record = self.get(run_id)
        self._records[run_id] = replace(record, params={**record.params, **as_text(params)})

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """See :meth:`RunStore.log_metrics`."""
        MemoryStore.log_history(self, run_id, [(step, metrics)])

    def log_history(self, run_id: str, rows: Sequence[HistoryRow]) -> None:
        """See :meth:`RunStore.log_history`."""
        last = dict(self.get(run_id).metrics)
        for step, metrics in rows:
            check_keys("metric", metrics)
            for key, value in metrics.items():
                if step >= self._steps.get((run_id, key), step):
                    self._steps[run_id, key] = step
                    last[key] = float(value)
            self.history[run_id].append((step, {key: float(v) for key, v in metrics.items()}))
        self._records[run_id] = replace(self._records[run_id], metrics=last)

    def log_file(self, run_id: str, path: Path, folder: str = "") -> None:
        """See :meth:`RunStore.log_file`."""
        add_file(self._files(run_id), path, folder)

    def log_folder(self, run_id: str, path: Path, folder: str) -> None:
        """See :meth:`RunStore.log_folder`."""
        add_folder(self._files(run_id), path, folder)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """See :meth:`RunStore.set_tags`."""
        check_keys("tag", tags)
        record = self.get(run_id)
        visible = {key: tag for key, tag in as_text(tags).items() if not key.startswith("mlflow.")}
        self._records[run_id] = replace(record, tags={**record.tags, **visible})

    def log_dataset(
        self,
        run_id: str,
        *,
        name: str,
        digest: str,
        source: str = "",
        profile: Mapping[str, object] = _NOTHING,
    ) -> None:
        """See :meth:`RunStore.log_dataset`."""
        self.get(run_id)
        self.datasets.setdefault(run_id, []).append(
            {
                "name": name,
                "digest": digest,
                "source": source,
                "profile": dict(profile),
            }
        )

    def finish(self, run_id: str, status: RunStatus = "finished") -> None:
        """See :meth:`RunStore.finish`."""
        self._records[run_id] = replace(self.get(run_id), status=status_named(status))

    def get(self, run_id: str) -> RunRecord:
        """See :meth:`RunStore.get`."""
        try:
            return self._records[run_id]
        except KeyError:
            raise unknown_run(run_id, self.uri) from None

    def find(
        self,
        *,
        kind: str = "sweep",
        params: Mapping[str, str] = _NOTHING,
        order: str = "-started",
        limit: int = 1000,
    ) -> tuple[RunRecord, ...]:
        """See :meth:`RunStore.find`."""
        chosen = [record for record in self._records.values() if record.kind == kind]
        return sort_runs(matching(chosen, params), order, limit)

    def children(self, run_id: str) -> tuple[RunRecord, ...]:
        """See :meth:`RunStore.children`."""
        self.get(run_id)
        below = [record for record in self._records.values() if record.parent == run_id]
        return sort_runs(below, "started")

    def files(self, run_id: str) -> dict[str, int]:
        """See :meth:`RunStore.files`."""
        return sizes(self._files(run_id))

    def read(self, run_id: str, path: str) -> bytes:
        """See :meth:`RunStore.read`."""
        return read_file(run_id, self._files(run_id), path)

    def page(self, run_id: str, path: str) -> str:
        """See :meth:`RunStore.page`; there are no pages."""
        return ""

    def fetch(self, run_id: str, folder: str, destination: Path) -> Path:
        """See :meth:`RunStore.fetch`."""
        return fetch_folder(run_id, self._files(run_id), folder, destination)

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

    def _files(self, run_id: str) -> Path:
        self.get(run_id)
        return Path(self._folder.name) / run_id
