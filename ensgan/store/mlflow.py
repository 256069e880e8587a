"""A connection to MLflow: its client, the experiment of new runs, its value types.

Only this module imports MLflow, at the first call that needs it (an import takes seconds); MLflow
is never told to unpickle anything.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from typing import Any, Final
from urllib.parse import urlsplit

from ensgan.errors import EnsganError, InputError, StoreError
from ensgan.inputs import database_path
from ensgan.store.base import unknown_run
from ensgan.store.record import Batch
from ensgan.store.sqlite import relocate
from ensgan.text import hide_credentials, printable, split_address

PAGES: Final = "workflowType=machine_learning"
"""Query that selects MLflow's pages about training; its default is those on language models."""
_PER_CALL: Final = {"params": 100, "tags": 100, "metrics": 1000}
_LONGEST_PARAM, _LONGEST_TAG = 6000, 8000
_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI open on the runs of a training, not on traces of language models."""
VIEW: Final = "ensgan"
"""Name of the columns that the list of runs is to show, as MLflow's pages share such views."""
VIEW_TAG: Final = f"mlflow.sharedViewState.{VIEW}"
_COLUMNS: Final = {
    "metrics": ("auc", "auc.all", "auc.real", "intra_d", "inter_d", "size"),
    "params": ("dataset", "members"),
    "tags": ("ensgan.selected", "ensgan.health"),
}
_VIEW: Final = json.dumps(
    {"selectedColumns": [f"{kind}.`{name}`" for kind in _COLUMNS for name in _COLUMNS[kind]]}
)
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_ANSWER_SECONDS = 5.0


def settle_environment() -> None:
    """Set MLflow's environment variables before its first import; those already set stay."""
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_LOGGING_LEVEL": "ERROR",  # keeps quiet about making and migrating tables
    }.items():
        os.environ.setdefault(name, value)


class Connection:
    """MLflow at an address; nothing is imported, created or contacted before it is needed.

    Args:
        uri: tracking address.
        experiment: name of the experiment that new runs go to; made when absent.
        artifact_root: folder for files when the address is a database; a tracking server
            decides for itself.

    Attributes:
        uri, artifact_root: see above.
        shown: the address without credentials, for messages.
        database: the file behind a ``sqlite:///`` address, None for other addresses.
    """

    def __init__(self, uri: str, experiment: str, artifact_root: Path | None) -> None:
        self.uri = uri
        self.shown = hide_credentials(uri)
        self.artifact_root = artifact_root
        self.database = database_path(uri)
        self._experiment = experiment
        self._lock = threading.RLock()
        self._client: Any = None
        self._experiment_id: str | None = None
        self._checked: set[str] = set()

    def client(self) -> Any:
        """MLflow's client, made with the SQLite file when there is none yet."""
        with self._lock:
            if self._client is None:
                settle_environment()
                _require_answer(self.uri, self.shown)
                from mlflow.tracking import MlflowClient

                if self.database is not None:
                    if not self.database.exists():
                        make_database(self.database, lambda new: MlflowClient(tracking_uri=new))
                    relocate(self.database)
                self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            return self._client

    def client_for_files(self, run_id: str) -> Any:
        """MLflow's client for the files of a run that may be asked for.

        The address of a run's files was chosen by the creator of its experiment, and MLflow would
        send the user's token to any address.

        Raises:
            StoreError: the address is on another host than the tracking server.
        """
        client = self.client()
        if run_id not in self._checked:
            location = str(client.get_run(run_id).info.artifact_uri)
            if _is_elsewhere(location, self.uri):
                raise StoreError(
                    f"the files of run {run_id} lie at {printable(hide_credentials(location))}, "
                    f"another host than {self.shown}: your credentials are not sent there; have "
                    "its experiment keep files at the tracking server"
                )
            self._checked.add(run_id)
        return client

    def experiment_for_new_runs(self) -> str:
        """ID of the experiment, made when absent.

        Raises:
            InputError: it has been deleted.
            StoreError: MLflow cannot be reached.
        """
        with self._lock, self.reported():
            if self._experiment_id is None:
                known = self._experiment_made()
                if known.lifecycle_stage != "active":
                    raise InputError(
                        f"experiment '{self._experiment}' in {self.shown} has been deleted: "
                        "restore it in the MLflow UI or set track.experiment to another name"
                    )
                self._experiment_id = str(known.experiment_id)
                if known.tags.get(VIEW_TAG) != _VIEW:
                    self.client().set_experiment_tag(self._experiment_id, VIEW_TAG, _VIEW)
            return self._experiment_id

    def _experiment_made(self) -> Any:
        client, root = self.client(), self.artifact_root
        known = client.get_experiment_by_name(self._experiment)
        if known is None:
            location = None if root is None else root.resolve().as_uri()
            try:
                client.create_experiment(self._experiment, location, _MODEL_TRAINING)
            except Exception:
                # Another driver was faster: its experiment is ours too.
                if client.get_experiment_by_name(self._experiment) is None:
                    raise
            known = client.get_experiment_by_name(self._experiment)
        return known

    def send(self, run_id: str, batch: Batch) -> None:
        """Store settings, metrics of many steps and tags, cut to what MLflow takes."""
        with self.reported(run_id):
            client = self.client()
            from mlflow.entities import Metric, Param, RunTag

            now = int(time() * 1000)
            entities: dict[str, list[Any]] = {
                "params": [Param(key, text[:_LONGEST_PARAM]) for key, text in batch.params.items()],
                "metrics": [
                    Metric(key, float(value), now, step)
                    for step, metrics in batch.rows
                    for key, value in metrics.items()
                ],
                "tags": [RunTag(key, text[:_LONGEST_TAG]) for key, text in batch.tags.items()],
            }
            for kind, values in entities.items():
                # MLflow limits what one call may carry.
                for start in range(0, len(values), _PER_CALL[kind]):
                    part = values[start : start + _PER_CALL[kind]]
                    client.log_batch(run_id, **{kind: part})

    def send_dataset(
        self, run_id: str, name: str, digest: str, source: str, sizes: Mapping[str, int]
    ) -> None:
        """Store a data input of a run, shown by MLflow's pages."""
        with self.reported(run_id):
            client = self.client()
            from mlflow.entities import Dataset, DatasetInput, InputTag

            data = Dataset(
                name=name,
                digest=digest[:36],  # longer ones are refused
                source_type="ensgan",
                source=json.dumps({"source": hide_credentials(source), "sha256": digest}),
                profile=json.dumps(dict(sizes)),
            )
            used = DatasetInput(data, tags=[InputTag("mlflow.data.context", "training")])
            client.log_inputs(run_id, datasets=[used])

    @contextmanager
    def reported(self, run_id: str | None = None) -> Iterator[None]:
        """Turn MLflow's errors into ensgan's."""
        settle_environment()
        try:
            yield
        except EnsganError:
            raise
        # MLflow, its parsers and its database each raise errors of their own kinds, the more so
        # when a server answers nonsense.
        except Exception as error:
            code = getattr(error, "error_code", "")
            if run_id is not None and code in _ABSENT and run_id in str(error):
                raise unknown_run(run_id, self.shown) from error
            reason = hide_credentials(" ".join(str(error).split()), self.uri)
            reason = printable(reason)[:300]
            if "Max retries exceeded" in reason:  # what requests says of a server that has gone
                raise StoreError(f"MLflow at {self.shown} does not answer any more") from error
            raise StoreError(
                f"MLflow at {self.shown} failed: {reason or type(error).__name__}; check that it "
                "is running and writable"
            ) from error


def _require_answer(uri: str, shown: str) -> None:
    """Refuse at once a server that does not run; MLflow itself tries for 20 seconds to minutes.

    Raises:
        StoreError: nothing takes connections there.
    """
    server = urlsplit(uri)
    port = (_DEFAULT_PORTS | _DATABASE_PORTS).get(server.scheme.partition("+")[0])
    if port is None or not server.hostname or "," in server.netloc:  # several, one may answer
        return
    from urllib.request import getproxies, proxy_bypass  # late: slow, and of servers alone

    if server.scheme in getproxies() and not proxy_bypass(server.hostname):
        return  # only the proxy can tell
    try:
        place = (server.hostname, server.port or port)
        socket.create_connection(place, timeout=_ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(
            f"no server answers at {shown} ({reason}): start it, or name another address"
        ) from error


def make_database(path: Path, migrate: Callable[[str], object]) -> None:
    """Let ``migrate`` build the database in a scratch file, then put it in place in one step.

    MLflow's 60 or so migrations commit one by one, and waiting for the disk takes most of their
    time; a scratch file needs no flushing, and a kill in their midst leaves no half-made database.

    Args:
        path: where the database shall be; one that appears meanwhile is kept.
        migrate: called with the address of the scratch file.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
        scratch = Path(folder).resolve() / "new.db"

        def without_flushing(connection: Any, _record: Any) -> None:
            if isinstance(connection, sqlite3.Connection):
                files = [row[2] for row in connection.execute("PRAGMA database_list")]
                if str(scratch) in files:
                    connection.execute("PRAGMA synchronous = OFF")

        event.listen(Engine, "connect", without_flushing)
        try:
            migrate(f"sqlite:///{scratch}")
        finally:
            event.remove(Engine, "connect", without_flushing)
        with scratch.open("rb") as written:
            os.fsync(written.fileno())
        # A link, unlike a rename, refuses to replace a database that another process made.
        with suppress(FileExistsError):
            os.link(scratch, path)


def server_command(uri: str, artifact_root: Path | None, port: int) -> list[str]:
    """The command of an MLflow server on 127.0.0.1 that answers to no other name."""
    hosts = ",".join(f"{name}:{port}" for name in ("localhost", "127.0.0.1"))
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", uri),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--allowed-hosts", hosts),
        *("--cors-allowed-origins", ",".join(f"http://{host}" for host in hosts.split(","))),
        *("--workers", "1", "--uvicorn-opts", "--log-level=warning"),
    ]
    if artifact_root is not None:
        command += ["--default-artifact-root", artifact_root.resolve().as_uri()]
    return command


def _is_elsewhere(location: str, tracking: str) -> bool:
    """Whether files lie on a web server other than the tracking server."""
    files, server = split_address(location), split_address(tracking)
    if files is None or server is None:
        return True
    if files.scheme not in ("http", "https", "mlflow-artifacts") or not files.netloc:
        return False
    scheme = server.scheme if files.scheme == "mlflow-artifacts" else files.scheme
    places = [
        (part.hostname, part.port or _DEFAULT_PORTS.get(kind))
        for part, kind in ((files, scheme), (server, server.scheme))
    ]
    return server.scheme not in _DEFAULT_PORTS or scheme != server.scheme or places[0] != places[1]
