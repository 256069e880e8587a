"""Runs in MLflow: its SQLite file by default, or any tracking server.

Only the driver of a sweep writes through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ensgan.errors import StoreError
from ensgan.store.base import (
    TAG_KIND,
    HistoryRow,
    RunRecord,
    RunStatus,
    check_folder,
    check_keys,
    status_named,
    unknown_run,
)
from ensgan.store.folders import read_file, sizes
from ensgan.store.mlflow import Connection
from ensgan.store.remote import ClientReader
from ensgan.store.sqlite import PARENT_TAG, SqliteReader, fetch_local

_NOTHING: Mapping[str, str] = MappingProxyType({})


class MLflowStore:
    """A :class:`~ensgan.store.base.RunStore` in an MLflow experiment.

    Nothing is imported, created or contacted before the first call; :meth:`prepare` does it
    ahead of time, from any thread.

    Args:
        uri: tracking address, e.g. ``sqlite:///runs/mlflow.db`` or ``http://127.0.0.1:5000``.
        experiment: name of the experiment that new runs go to; made when absent.
        artifact_root: folder for files when the address is a database; a tracking server
            decides for itself.
    """

    def __init__(
        self, uri: str, experiment: str = "ensgan", artifact_root: Path | None = None
    ) -> None:
        self._connection = Connection(uri, experiment, artifact_root)
        self._reader: SqliteReader | None = None
        self._remote = ClientReader(self._connection.client, self._connection.reported)

    @property
    def uri(self) -> str:
        """Tracking address."""
        return self._connection.uri

    @property
    def artifact_root(self) -> Path | None:
        """Folder for files when the address is a database."""
        return self._connection.artifact_root

    def prepare(self) -> None:
        """Import MLflow, make the database if it is SQLite and absent, find the experiment."""
        self._connection.experiment_for_new_runs()

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
        own = {TAG_KIND: kind, "mlflow.source.name": "ensgan", "mlflow.source.type": "LOCAL"}
        if parent is not None:
            own[PARENT_TAG] = parent
        experiment = self._connection.experiment_for_new_runs()
        with self._connection.reported():
            run = self._connection.client().create_run(
                experiment, tags={**own, **tags}, run_name=name
            )
        run_id = str(run.info.run_id)
        self.log_params(run_id, params)
        return run_id

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """See :meth:`RunStore.log_metrics`."""
        self.log_history(run_id, [(step, metrics)])

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """See :meth:`RunStore.log_params`."""
        check_keys("parameter", params)
        if params:
            self._connection.send_params(run_id, params)

    def log_history(self, run_id: str, rows: Sequence[HistoryRow]) -> None:
        """See :meth:`RunStore.log_history`."""
        for _, metrics in rows:
            check_keys("metric", metrics)
        self._connection.send_metrics(run_id, rows)

    def log_file(self, run_id: str, path: Path, folder: str = "") -> None:
        """See :meth:`RunStore.log_file`."""
        if not path.is_file():
            raise StoreError(f"cannot store {path}: no such file")
        target = check_folder(folder) if folder else None
        with self._connection.reported(run_id):
            self._connection.client().log_artifact(run_id, str(path), target)

    def log_folder(self, run_id: str, path: Path, folder: str) -> None:
        """See :meth:`RunStore.log_folder`; what has arrived is compared with what was sent."""
        if not path.is_dir():
            raise StoreError(f"cannot store {path}: no such folder")
        check_folder(folder)
        with self._connection.reported(run_id):
            self._connection.client().log_artifacts(run_id, str(path), folder)
        arrived = self.files(run_id)
        for name, size in sizes(path).items():
            found = arrived.get(f"{folder}/{name}")
            if found != size:
                raise StoreError(
                    f"{name} of {folder} did not arrive whole in {self.uri}: {size} bytes sent, "
                    f"{found or 0} stored; send the run again with 'ensgan sync'"
                )

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """See :meth:`RunStore.set_tags`."""
        check_keys("tag", tags)
        self._connection.send_tags(run_id, tags)

    def log_dataset(
        self,
        run_id: str,
        *,
        name: str,
        digest: str,
        source: str = "",
        profile: Mapping[str, object] = _NOTHING,
        context: str = "training",
    ) -> None:
        """See :meth:`RunStore.log_dataset`; shown by MLflow as the run's data input."""
        self._connection.send_dataset(
            run_id, name=name, digest=digest, source=source, profile=profile, context=context
        )

    def finish(self, run_id: str, status: RunStatus = "finished") -> None:
        """See :meth:`RunStore.finish`."""
        name = status_named(status).upper()
        with self._connection.reported(run_id):
            self._connection.client().set_terminated(run_id, None if name == "RUNNING" else name)

    def get(self, run_id: str) -> RunRecord:
        """See :meth:`RunStore.get`."""
        self._refuse_when_empty(run_id)
        return (self._direct() or self._remote).get(run_id)

    def find(
        self,
        *,
        kind: str = "sweep",
        params: Mapping[str, str] = _NOTHING,
        order: str = "-started",
        limit: int = 1000,
    ) -> tuple[RunRecord, ...]:
        """See :meth:`RunStore.find`; all experiments are searched."""
        if self.is_empty():
            return ()
        reader = self._direct() or self._remote
        return reader.find(kind=kind, params=params, order=order, limit=limit)

    def children(self, run_id: str) -> tuple[RunRecord, ...]:
        """See :meth:`RunStore.children`."""
        self._refuse_when_empty(run_id)
        return (self._direct() or self._remote).children(run_id)

    def files(self, run_id: str) -> dict[str, int]:
        """See :meth:`RunStore.files`."""
        root = self._local_files(run_id)
        return sizes(root) if root is not None else self._remote.files(run_id)

    def read(self, run_id: str, path: str) -> bytes:
        """See :meth:`RunStore.read`."""
        root = self._local_files(run_id)
        return self._remote.read(run_id, path) if root is None else read_file(run_id, root, path)

    def page(self, run_id: str, path: str) -> str:
        """See :meth:`RunStore.page`; MLflow's routes."""
        return self._remote.page(run_id, path)

    def fetch(self, run_id: str, folder: str, destination: Path) -> Path:
        """See :meth:`RunStore.fetch`."""
        root = self._local_files(run_id)
        if root is not None:
            return fetch_local(run_id, root, folder, destination)
        return self._remote.fetch(run_id, folder, destination)

    @contextmanager
    def connection(self, run_id: str | None = None) -> Iterator[Any]:
        """MLflow's own client, for what is not in :class:`RunStore`; errors become ensgan's."""
        with self._connection.reported(run_id):
            yield self._connection.client()

    def is_empty(self) -> bool:
        """Whether the store is an SQLite file that does not exist yet."""
        database = self._connection.database
        return database is not None and not database.exists()

    def _direct(self) -> SqliteReader | None:
        """A reader of the SQLite file when there is one that it understands."""
        database = self._connection.database
        if database is None:
            return None
        if self._reader is None:
            reader = SqliteReader(database)
            self._reader = reader if reader.understands() else None
        return self._reader

    def _local_files(self, run_id: str) -> Path | None:
        """The run's folder when it lies on this machine and the SQLite file says where."""
        self._refuse_when_empty(run_id)
        reader = self._direct()
        return None if reader is None else reader.artifact_folder(run_id)

    def _refuse_when_empty(self, run_id: str) -> None:
        if self.is_empty():
            raise unknown_run(run_id, self.uri)
