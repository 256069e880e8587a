"""Runs in MLflow: its SQLite file by default, or any tracking server; and the server of its pages.

Only the driver of a sweep writes through it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import ensgan.store.record as run_records
from ensgan.errors import InputError, StoreError, last_line
from ensgan.outputs import claim_port
from ensgan.store.base import RunStore
from ensgan.store.mlflow import (
    PAGES,
    VIEW,
    VIEW_TAG,
    Connection,
    server_command,
    settle_environment,
)
from ensgan.store.remote import ClientReader, RemoteFiles
from ensgan.store.sqlite import SqliteReader, relocate

PATIENCE_SECONDS = 180.0
"""A busy machine may need a minute to import MLflow."""


def serve(command: Sequence[str], port: int, on_start: Callable[[str], object]) -> int:
    """Run a server on 127.0.0.1 until ctrl-C or SIGTERM, which end it too; its exit code.

    Args:
        on_start: called with its address, once it takes connections.

    Raises:
        StoreError: it ends before it answers, with the last line that it wrote.
    """
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment["PYTHONSAFEPATH"] = "1"  # import nothing from the current folder
    with (
        tempfile.TemporaryFile() as log,
        _terminations(),
        subprocess.Popen(
            command, env=environment, cwd=Path.cwd(), stdout=log, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            if not _answers(server, port):
                server.terminate()
                log.seek(0)
                reason = last_line(log.read().decode(errors="replace"))
                raise StoreError(f"the server of the pages did not start: {reason}")
            on_start(f"http://127.0.0.1:{port}")
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            server.wait()
            return 0


@contextmanager
def _terminations() -> Iterator[None]:
    """Treat SIGTERM like ctrl-C; Python allows it in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait for the server to take connections; False where it ended or took too long."""
    end = time.monotonic() + PATIENCE_SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return True
    return False


class MLflowStore(RunStore):
    """Runs in an MLflow experiment.

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
        self._remote = ClientReader(self._connection)
        self._direct: SqliteReader | ClientReader | None = None

    @property
    def uri(self) -> str:
        """Tracking address, without credentials."""
        return self._connection.shown

    def prepare(self) -> None:
        """Import MLflow, make the database if it is SQLite and absent, find the experiment."""
        self._connection.experiment_for_new_runs()

    def log_dataset(
        self, run_id: str, *, name: str, digest: str, source: str, sizes: Mapping[str, int]
    ) -> None:
        """See :meth:`RunStore.log_dataset`; MLflow's pages show it as an input."""
        self._connection.send_dataset(run_id, name, digest, source, sizes)

    def finish(self, run_id: str, status: run_records.RunStatus = "finished") -> None:
        """See :meth:`RunStore.finish`."""
        name = run_records.status_named(status).upper()
        with self._connection.reported(run_id):
            self._connection.client().set_terminated(run_id, None if name == "RUNNING" else name)

    def get(self, run_id: str) -> run_records.RunRecord:
        """See :meth:`RunStore.get`."""
        return self._reader().get(run_id)

    def page(self, run_id: str, path: str = "") -> str:
        """See :meth:`RunStore.page`; MLflow's routes."""
        below = f"/artifacts/{path}" if path else ""
        return f"{_runs_of(self._reader().experiment_of(run_id))}/{run_id}{below}?{PAGES}"

    def list_page(self, run_id: str) -> str:
        """See :meth:`RunStore.list_page`."""
        reader = self._reader()
        experiment = reader.experiment_of(run_id)
        # MLflow's page shows an error for a view that does not exist, as in experiments of others.
        view = f"&viewStateShareKey={VIEW}" if reader.has_tag(experiment, VIEW_TAG) else ""
        return f"{_runs_of(experiment)}?{PAGES}{view}"

    def register(self, run_id: str, name: str, alias: str) -> int:
        """See :meth:`RunStore.register`; in MLflow's model registry."""
        with self._connection.reported(run_id):
            client = self._connection.client()
            if not list(client.search_registered_models(f"name = '{name}'")):
                client.create_registered_model(name)
            known = client.search_model_versions(f"name = '{name}'")
            versions = [int(entry.version) for entry in known if entry.run_id == run_id]
            if not versions:
                source = f"{client.get_run(run_id).info.artifact_uri}/{run_records.ENSEMBLE_FOLDER}"
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
        return serve(server_command(connection.uri, connection.artifact_root, port), port, on_start)

    def _is_empty(self) -> bool:
        """Whether the store is an SQLite file that does not exist yet."""
        database = self._connection.database
        return database is not None and not database.exists()

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        source = {"mlflow.source.name": "ensgan", "mlflow.source.type": "LOCAL"}
        experiment = self._connection.experiment_for_new_runs()
        with self._connection.reported():
            client = self._connection.client()
            run = client.create_run(experiment, tags={**source, **tags}, run_name=name)
        return str(run.info.run_id)

    def _send(self, run_id: str, batch: run_records.Batch) -> None:
        self._connection.send(run_id, batch)

    def _tagged(self, tag: str, value: str) -> list[run_records.RunRecord]:
        return self._reader().tagged(tag, value)

    def _files(self, run_id: str) -> run_records.Files:
        reader = self._reader()
        root = reader.artifact_folder(run_id) if isinstance(reader, SqliteReader) else None
        return (
            RemoteFiles(self._connection, run_id) if root is None else run_records.LocalFiles(root)
        )

    def _reader(self) -> SqliteReader | ClientReader:
        """Reads the SQLite file where there is one that it understands, or none yet."""
        database = self._connection.database
        if database is None:
            return self._remote
        if self._direct is None:
            reader = SqliteReader(database)
            if not database.exists():
                return reader
            self._direct = reader if reader.understands() else self._remote
        return self._direct


def _runs_of(experiment: str) -> str:
    """MLflow's route to the runs of an experiment."""
    return f"#/experiments/{experiment}/runs"
