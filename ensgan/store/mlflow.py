"""A connection to MLflow: its client, the experiment of new runs, and the shapes it wants.

Only this module imports MLflow, at the first call that needs it (an import takes seconds); MLflow
is never told to unpickle anything.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any

from ensgan.errors import InputError, StoreError
from ensgan.store.base import HistoryRow, as_text, unknown_run
from ensgan.store.database import make_database
from ensgan.store.environment import settle_environment
from ensgan.store.sqlite import database_path

_PARAMS_PER_CALL, _TAGS_PER_CALL, _METRICS_PER_CALL = 100, 100, 1000
_LONGEST_PARAM, _LONGEST_TAG = 6000, 8000
_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI open on the runs of a training, not on traces of language models."""


class Connection:
    """MLflow at an address; nothing is imported, created or contacted before it is needed.

    Args:
        uri: tracking address.
        experiment: name of the experiment that new runs go to; made when absent.
        artifact_root: folder for files when the address is a database; a tracking server
            decides for itself.

    Attributes:
        uri, artifact_root: see above.
        database: the file behind a ``sqlite:///`` address, None for other addresses.
    """

    def __init__(self, uri: str, experiment: str, artifact_root: Path | None) -> None:
        self.uri = uri
        self.artifact_root = artifact_root
        self.database = database_path(uri)
        self._experiment = experiment
        self._lock = threading.RLock()
        self._client: Any = None
        self._experiment_id: str | None = None

    def client(self) -> Any:
        """MLflow's client, made with the SQLite file when there is none yet."""
        with self._lock:
            if self._client is None:
                settle_environment()
                from mlflow.tracking import MlflowClient

                if self.database is not None and not self.database.exists():
                    make_database(self.database, lambda new: MlflowClient(tracking_uri=new))
                self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            return self._client

    def experiment_for_new_runs(self) -> str:
        """ID of the experiment, made when absent.

        Raises:
            InputError: it has been deleted.
            StoreError: MLflow cannot be reached.
        """
        with self._lock, self.reported():
            if self._experiment_id is None:
                client = self.client()
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

    def send_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Store settings as text, cut to what MLflow takes."""
        with self.reported(run_id):
            client = self.client()
            from mlflow.entities import Param

            values = [Param(key, value[:_LONGEST_PARAM]) for key, value in as_text(params).items()]
            for part in _chunks(values, _PARAMS_PER_CALL):
                client.log_batch(run_id, params=part)

    def send_metrics(self, run_id: str, rows: Sequence[HistoryRow]) -> None:
        """Store metrics of many steps, as few calls as MLflow allows."""
        with self.reported(run_id):
            client = self.client()
            from mlflow.entities import Metric

            now = int(time() * 1000)
            values = [
                Metric(key, float(value), now, step)
                for step, metrics in rows
                for key, value in metrics.items()
            ]
            for part in _chunks(values, _METRICS_PER_CALL):
                client.log_batch(run_id, metrics=part)

    def send_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Store tags, cut to what MLflow takes."""
        with self.reported(run_id):
            client = self.client()
            from mlflow.entities import RunTag

            values = [RunTag(key, str(value)[:_LONGEST_TAG]) for key, value in tags.items()]
            for part in _chunks(values, _TAGS_PER_CALL):
                client.log_batch(run_id, tags=part)

    def send_dataset(
        self,
        run_id: str,
        *,
        name: str,
        digest: str,
        source: str,
        profile: Mapping[str, object],
        context: str,
    ) -> None:
        """Store a data input of a run."""
        with self.reported(run_id):
            client = self.client()
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

    @contextmanager
    def reported(self, run_id: str | None = None) -> Iterator[None]:
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
