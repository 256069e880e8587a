"""Reading an MLflow database in SQLite directly.

Importing MLflow takes seconds; listing and fetching runs should not. The tables read here are
the core of MLflow's schema. A database without them is read through MLflow instead.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

from ensgan.errors import StoreError
from ensgan.store.base import unknown_run
from ensgan.store.record import TAG_KIND, TAG_PARENT, RunRecord, RunStatus
from ensgan.text import split_address

ARTIFACTS: Final = "artifacts"
"""Folder beside the database that holds the files of runs."""
STATUS: Final[Mapping[str, RunStatus]] = MappingProxyType(
    {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}
)
_NEEDED = {
    "runs": {"run_uuid", "name", "status", "start_time", "artifact_uri", "lifecycle_stage"},
    "tags": {"run_uuid", "key", "value"},
    "params": {"run_uuid", "key", "value"},
    "latest_metrics": {"run_uuid", "key", "value", "is_nan"},
}
_PATHS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns that hold absolute paths."""


def record_from(
    run_id: str,
    name: str | None,
    status: str,
    start_time: int | None,
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> RunRecord:
    """A record from what MLflow keeps; times in milliseconds since 1970, UTC."""
    return RunRecord(
        run_id=run_id,
        name=name or "",
        kind=tags.get(TAG_KIND, ""),
        status=STATUS.get(status, "running"),
        started=datetime.fromtimestamp((start_time or 0) / 1000, timezone.utc),
        parent=tags.get(TAG_PARENT),
        params=dict(params),
        metrics=dict(metrics),
        tags={key: value for key, value in tags.items() if not key.startswith("mlflow.")},
    )


class SqliteReader:
    """Reads runs from MLflow's SQLite file; an absent one holds none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uri = f"sqlite:///{path}"

    def understands(self) -> bool:
        """Whether the file has the tables and columns that are read here."""
        with self._connect() as connection:
            for table, needed in _NEEDED.items():
                columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                if not needed <= columns:
                    return False
        return True

    def get(self, run_id: str) -> RunRecord:
        """See :meth:`RunStore.get`."""
        records = self._records("SELECT ?", [run_id])
        if not records:
            raise unknown_run(run_id, self.uri)
        return records[0]

    def tagged(self, tag: str, value: str) -> list[RunRecord]:
        """All runs whose tag has this value."""
        chosen = "SELECT run_uuid FROM tags WHERE key = ? AND value = ?"
        return self._records(chosen, [tag, value])

    def experiment_of(self, run_id: str) -> str:
        """ID of the experiment that a run is in."""
        return self._of_run("experiment_id", run_id)

    def has_tag(self, experiment: str, tag: str) -> bool:
        """Whether an experiment carries a tag."""
        with self._connect() as connection:
            asked = "SELECT 1 FROM experiment_tags WHERE experiment_id = ? AND key = ?"
            return connection.execute(asked, [experiment, tag]).fetchone() is not None

    def artifact_folder(self, run_id: str) -> Path | None:
        """Where the run's files lie, when that is a folder of this machine.

        The database names absolute paths, as MLflow wants them. Files of a storage folder lie
        beside the database wherever it was moved or copied to; what now stands in the old place
        may be another's.
        """
        address = self._of_run("artifact_uri", run_id)
        if _storage_root(address, run_id) is not None:
            return self.path.resolve().parent / ARTIFACTS / run_id / "artifacts"
        return local_folder(address)

    def _of_run(self, column: str, run_id: str) -> str:
        self.get(run_id)
        with self._connect() as connection:
            asked = f"SELECT {column} FROM runs WHERE run_uuid = ?"
            return str(connection.execute(asked, [run_id]).fetchone()[0])

    def _records(self, chosen: str, values: Sequence[str]) -> list[RunRecord]:
        """The records of runs, whose IDs the statement ``chosen`` gives for ``values``."""
        if not self.path.exists():
            return []
        with self._connect() as connection:
            connection.execute("BEGIN")  # all tables as of one moment

            def rows(what: str, table: str, more: str = "") -> list[Any]:
                # Only fixed words and question marks reach the statement.
                statement = f"SELECT {what} FROM {table} WHERE run_uuid IN ({chosen}){more}"
                return connection.execute(statement, values).fetchall()

            params, tags = (_by_run(rows("run_uuid, key, value", t)) for t in ("params", "tags"))
            metrics = _by_run(
                (run_id, key, math.nan if is_nan else value)
                for run_id, key, value, is_nan in rows(
                    "run_uuid, key, value, is_nan", "latest_metrics"
                )
            )
            runs = rows(
                "run_uuid, name, status, start_time", "runs", " AND lifecycle_stage = 'active'"
            )
        return [
            record_from(*run, *(values.get(run[0], {}) for values in (params, metrics, tags)))
            for run in runs
        ]

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        address = f"{self.path.resolve().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=20)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot read {self.path}: {error}; is it an MLflow database, and readable?"
            ) from error


def local_folder(artifact_uri: str) -> Path | None:
    """The folder behind ``file:`` addresses and plain paths; None for any other scheme."""
    parsed = split_address(artifact_uri)
    if (
        parsed is None
        or parsed.scheme not in ("", "file")
        or parsed.netloc not in ("", "localhost")
    ):
        return None
    return Path(unquote(parsed.path) if parsed.scheme else artifact_uri)


def relocate(database: Path) -> None:
    """Make MLflow's own paths follow a storage folder that was moved or copied.

    MLflow has no relative paths. Its pages and its registry look where the database says.

    Raises:
        StoreError: the database cannot be read.
    """
    here = (database.resolve().parent / ARTIFACTS).as_uri()
    ours = "SELECT runs.* FROM runs JOIN tags USING (run_uuid) WHERE tags.key = ?"
    try:
        with closing(sqlite3.connect(database, timeout=20)) as connection:
            rows = connection.execute(
                f"SELECT DISTINCT run_uuid, artifact_uri FROM ({ours})", (TAG_KIND,)
            )
            recorded = {_storage_root(str(uri), run_id) for run_id, uri in rows}
            for old in {root for root in recorded if root is not None} - {here}:
                for table, column in _PATHS:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (here, len(old) + 1, old, len(old) + 1, f"{old}/"),
                    )
            connection.commit()
    except sqlite3.Error as error:
        raise StoreError(
            f"cannot write {database}: {error}; is it an MLflow database, and writable?"
        ) from error


def _storage_root(artifact_uri: str, run_id: str) -> str | None:
    """The folder of all runs' files in the layout of a storage folder; None for other layouts."""
    root = artifact_uri.removesuffix(f"/{run_id}/artifacts")
    is_ours = root != artifact_uri and root.endswith(f"/{ARTIFACTS}")
    return root if is_ours and local_folder(artifact_uri) is not None else None


def _by_run(rows: Any) -> dict[str, dict[str, Any]]:
    grouped: dict[str, dict[str, Any]] = {}
    for run_id, key, value in rows:
        grouped.setdefault(run_id, {})[key] = value
    return grouped
