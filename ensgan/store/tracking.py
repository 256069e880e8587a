"""Runs in MLflow: its SQLite file by default, or any tracking server.

Only the driver of a sweep writes through it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ensgan.errors import InputError, StoreError
from ensgan.outputs import claim_port
from ensgan.store.base import (
    ENSEMBLE_FOLDER,
    TAG_KIND,
    HistoryRow,
    RunRecord,
    RunStatus,
    check_keys,
    status_named,
    unknown_run,
)
from ensgan.store.folders import add_file, add_folder, check_folder, fetch_folder, read_file, sizes
from ensgan.store.mlflow import PAGES, Connection, server_command, settle_environment
from ensgan.store.remote import ClientReader
from ensgan.store.sqlite import PARENT_TAG, SqliteReader, relocate

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
        self._remote = ClientReader(self._connection)

    @property
    def uri(self) -> str:
        """Tracking address, without credentials."""
        return self._connection.shown

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
            self._connection.send(run_id, params=params)

    def log_history(self, run_id: str, rows: Sequence[HistoryRow]) -> None:
        """See :meth:`RunStore.log_history`."""
        for _, metrics in rows:
            check_keys("metric", metrics)
        self._connection.send(run_id, rows=rows)

    def log_file(self, run_id: str, path: Path, folder: str = "") -> None:
        """See :meth:`RunStore.log_file`."""
        root = self._local_files(run_id)
        if root is not None:
            add_file(root, path, folder)
            return
        if not path.is_file():
            raise StoreError(f"cannot store {path}: no such file")
        target = check_folder(folder) if folder else None
        with self._connection.reported(run_id):
            self._connection.client_for_files(run_id).log_artifact(run_id, str(path), target)

    def log_folder(self, run_id: str, path: Path, folder: str) -> None:
        """See :meth:`RunStore.log_folder`; what has arrived is compared with what was sent."""
        root = self._local_files(run_id)
        if root is not None:
            add_folder(root, path, folder)
            return
        if not path.is_dir():
            raise StoreError(f"cannot store {path}: no such folder")
        check_folder(folder)
        with self._connection.reported(run_id):
            self._connection.client_for_files(run_id).log_artifacts(run_id, str(path), folder)
        arrived = self.files(run_id)
        for name, size in sizes(path).items():
            stored = arrived.get(f"{folder}/{name}")
            if stored != size:
                raise StoreError(
                    f"{name} of {folder} did not arrive whole in {self.uri}: {size} bytes sent, "
                    f"{stored or 0} stored; send the run again with 'ensgan sync'"
                )

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """See :meth:`RunStore.set_tags`."""
        check_keys("tag", tags)
        self._connection.send(run_id, tags=tags)

    def log_dataset(
        self,
        run_id: str,
        *,
        name: str,
        digest: str,
        source: str = "",
        profile: Mapping[str, object] = _NOTHING,
    ) -> None:
        """See :meth:`RunStore.log_dataset`; shown by MLflow as the run's data input."""
        self._connection.send_dataset(run_id, name, digest, source, profile)

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
        if self._is_empty():
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
            return fetch_folder(run_id, root, folder, destination)
        return self._remote.fetch(run_id, folder, destination)

    def register(self, run_id: str, name: str, alias: str) -> int:
        """See :meth:`RunStore.register`; in MLflow's model registry."""
        with self._connection.reported(run_id):
            client = self._connection.client()
            if not list(client.search_registered_models(f"name = '{name}'")):
                client.create_registered_model(name)
            known = client.search_model_versions(f"name = '{name}'")
            versions = [int(entry.version) for entry in known if entry.run_id == run_id]
            if not versions:
                source = f"{client.get_run(run_id).info.artifact_uri}/{ENSEMBLE_FOLDER}"
                made = client.create_model_version(name, source, run_id=run_id)
                versions = [int(made.version)]
            client.set_registered_model_alias(name, alias, str(max(versions)))
        return max(versions)

    def registered(
        self, name: str, *, alias: str | None = None, version: str | None = None
    ) -> str | None:
        """See :meth:`RunStore.registered`."""
        if self._is_empty():
            return None
        with self._connection.reported():
            client = self._connection.client()
            for model in client.search_registered_models(f"name = '{name}'"):
                wanted = version if alias is None else model.aliases.get(alias)
                for entry in client.search_model_versions(f"name = '{name}'"):
                    if str(entry.version) == str(wanted) and entry.run_id:
                        return str(entry.run_id)
        return None

    def serve_pages(self, port: int, on_start: Callable[[str], object]) -> int:
        """See :meth:`RunStore.serve_pages`; MLflow's server, for this machine only."""
        connection = self._connection
        if connection.uri.startswith("http"):
            on_start(self.uri)
            return 0
        if self._is_empty():
            raise InputError(
                f"there is nothing to show in {self.uri}: run a sweep first, or name another "
                "--storage"
            )
        claim_port("127.0.0.1", port)
        if connection.database is not None:
            relocate(connection.database)
        settle_environment()
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        command = server_command(connection.uri, connection.artifact_root, port)
        with subprocess.Popen(command, env=environment, cwd=Path.cwd()) as server:
            on_start(f"http://127.0.0.1:{port}/#/experiments?{PAGES}")
            try:
                return server.wait()
            except KeyboardInterrupt:
                server.terminate()
                server.wait()
                return 0

    def _is_empty(self) -> bool:
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
        if self._is_empty():
            raise unknown_run(run_id, self.uri)
