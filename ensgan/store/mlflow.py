"""Runs in MLflow: its SQLite file by default, or any tracking server.

Only the driver of a sweep uses this module. MLflow is imported at the first call that needs it
(an import takes seconds), and never told to unpickle anything.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import time
from types import MappingProxyType
from typing import Any

from ensgan.errors import InputError, StoreError
from ensgan.store.base import (
    TAG_KIND,
    HistoryRow,
    RunRecord,
    RunStatus,
    as_text,
    check_folder,
    check_keys,
    status_named,
    unknown_run,
)
from ensgan.store.database import make_database
from ensgan.store.environment import settle_environment
from ensgan.store.folders import read_file, sizes
from ensgan.store.remote import ClientReader
from ensgan.store.sqlite import PARENT_TAG, SqliteReader, database_path, fetch_local

_NOTHING: Mapping[str, str] = MappingProxyType({})
_PARAMS_PER_CALL, _TAGS_PER_CALL, _METRICS_PER_CALL = 100, 100, 1000
_LONGEST_PARAM, _LONGEST_TAG = 6000, 8000


_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI open on the runs of a training, not on traces of language models."""


class MLflowStore:
    """A :class:`~ensgan.store.base.RunStore` in an MLflow experiment.

    Nothing is imported, created or contacted before the first call; :meth:`prepare` does it
    ahead of time, from any thread.

    Args:
        uri: tracking address, e.g. ``sqlite:///runs/mlflow.db`` or ``http://127.0.0.1:5000``.
        experiment: name of the experiment that new runs go to; made when absent.
        artifact_root: folder for files when the address is a database; a tracking server
            decides for itself.

    Attributes:
        artifact_root: see above.
    """

    def __init__(
        self, uri: str, experiment: str = "ensgan", artifact_root: Path | None = None
    ) -> None:
        self._uri = uri
        self._experiment = experiment
        self.artifact_root = artifact_root
        self._lock = threading.RLock()
        self._client_made: Any = None
        self._experiment_id: str | None = None
        self._database = database_path(uri)
        self._reader: SqliteReader | None = None
        self._remote = ClientReader(self._client, self._reported)

    @property
    def uri(self) -> str:
        """Tracking address."""
        return self._uri

    def prepare(self) -> None:
        """Import MLflow, make the database if it is SQLite and absent, find the experiment."""
        self._experiment_for_new_runs()

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
        experiment = self._experiment_for_new_runs()
        with self._reported():
            run = self._client().create_run(experiment, tags={**own, **tags}, run_name=name)
        run_id = str(run.info.run_id)
        self.log_params(run_id, params)
        return run_id

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """See :meth:`RunStore.log_metrics`."""
        self.log_history(run_id, [(step, metrics)])

    def log_history(self, run_id: str, rows: Sequence[HistoryRow]) -> None:
        """See :meth:`RunStore.log_history`."""
        for _, metrics in rows:
            check_keys("metric", metrics)
        with self._reported(run_id):
            client = self._client()
            from mlflow.entities import Metric

            now = int(time() * 1000)
            values = [
                Metric(key, float(value), now, step)
                for step, metrics in rows
                for key, value in metrics.items()
            ]
            for part in _chunks(values, _METRICS_PER_CALL):
                client.log_batch(run_id, metrics=part)

    def log_file(self, run_id: str, path: Path, folder: str = "") -> None:
        """See :meth:`RunStore.log_file`."""
        if not path.is_file():
            raise StoreError(f"cannot store {path}: no such file")
        target = check_folder(folder) if folder else None
        with self._reported(run_id):
            self._client().log_artifact(run_id, str(path), target)

    def log_folder(self, run_id: str, path: Path, folder: str) -> None:
        """See :meth:`RunStore.log_folder`; what has arrived is compared with what was sent."""
        if not path.is_dir():
            raise StoreError(f"cannot store {path}: no such folder")
        check_folder(folder)
        with self._reported(run_id):
            self._client().log_artifacts(run_id, str(path), folder)
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
        with self._reported(run_id):
            client = self._client()
            from mlflow.entities import RunTag

            values = [RunTag(key, str(value)[:_LONGEST_TAG]) for key, value in tags.items()]
            for part in _chunks(values, _TAGS_PER_CALL):
                client.log_batch(run_id, tags=part)

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
        with self._reported(run_id):
            client = self._client()
            from mlflow.entities import Dataset, DatasetInput, InputTag

            data = Dataset(
                name=name,
                digest=digest[:36],
                source_type="ensgan",
                source=json.dumps({"source": source, "sha256": digest}),
                profile=json.dumps(dict(profile)),
            )
            used = DatasetInput(data, tags=[InputTag("mlflow.data.context", context)])
            client.log_inputs(run_id, datasets=[used])

    def finish(self, run_id: str, status: RunStatus = "finished") -> None:
        """See :meth:`RunStore.finish`."""
        name = status_named(status).upper()
        with self._reported(run_id):
            self._client().set_terminated(run_id, None if name == "RUNNING" else name)

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
        with self._reported(run_id):
            yield self._client()

    def is_empty(self) -> bool:
        """Whether the store is an SQLite file that does not exist yet."""
        return self._database is not None and not self._database.exists()

    # -- the parts below keep MLflow's ways in one place

    def _direct(self) -> SqliteReader | None:
        """A reader of the SQLite file when there is one that it understands."""
        if self._database is None:
            return None
        if self._reader is None:
            reader = SqliteReader(self._database)
            self._reader = reader if reader.understands() else None
        return self._reader

    def _client(self) -> Any:
        with self._lock:
            if self._client_made is None:
                settle_environment()
                from mlflow.tracking import MlflowClient

                if self._database is not None and not self._database.exists():
                    make_database(self._database, lambda new: MlflowClient(tracking_uri=new))
                self._client_made = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
            return self._client_made

    def _experiment_for_new_runs(self) -> str:
        with self._lock, self._reported():
            if self._experiment_id is None:
                client = self._client()
                found = client.get_experiment_by_name(self._experiment)
                if found is None:
                    self._experiment_id = str(self._create_experiment(client))
                elif found.lifecycle_stage == "active":
                    self._experiment_id = str(found.experiment_id)
                else:
                    raise InputError(
                        f"experiment '{self._experiment}' in {self.uri} has been deleted: restore "
                        "it in the MLflow UI or set track.experiment to another name"
                    )
            return self._experiment_id

    def _create_experiment(self, client: Any) -> Any:
        from mlflow.exceptions import MlflowException

        root = self.artifact_root
        location = root.resolve().as_uri() if root is not None else None
        try:
            return client.create_experiment(
                self._experiment, artifact_location=location, tags=_MODEL_TRAINING
            )
        except MlflowException:
            # Another driver was faster: its experiment is ours too.
            found = client.get_experiment_by_name(self._experiment)
            if found is None:
                raise
            return found.experiment_id

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """See :meth:`RunStore.log_params`."""
        if not params:
            return
        with self._reported(run_id):
            client = self._client()
            from mlflow.entities import Param

            values = [Param(key, value[:_LONGEST_PARAM]) for key, value in as_text(params).items()]
            for part in _chunks(values, _PARAMS_PER_CALL):
                client.log_batch(run_id, params=part)

    def _local_files(self, run_id: str) -> Path | None:
        """The run's folder when it lies on this machine and the SQLite file says where."""
        self._refuse_when_empty(run_id)
        reader = self._direct()
        return None if reader is None else reader.artifact_folder(run_id)

    def _refuse_when_empty(self, run_id: str) -> None:
        if self.is_empty():
            raise unknown_run(run_id, self.uri)

    @contextmanager
    def _reported(self, run_id: str | None = None) -> Iterator[None]:
        """Turn MLflow's errors into ensgan's."""
        settle_environment()
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            code = getattr(error, "error_code", "")
            absent = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
            if run_id is not None and code in absent and run_id in str(error):
                raise unknown_run(run_id, self.uri) from error
            reason = " ".join(str(error).split())[:300]
            raise StoreError(
                f"MLflow at {self.uri} failed: {reason}; check that it is running and writable"
            ) from error


def _chunks(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Parts of at most ``size``: MLflow limits what one call may carry."""
    return (values[start : start + size] for start in range(0, len(values), size))
