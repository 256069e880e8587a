"""What a store of runs is, whatever keeps it: records, the protocol, the rules for names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

from ensgan.errors import InputError
from ensgan.text import hide_credentials

RunStatus: TypeAlias = Literal["running", "finished", "failed", "killed"]
HistoryRow: TypeAlias = tuple[int, Mapping[str, float]]
"""A step and the metrics measured at it."""

TAG_KIND: Final = "ensgan.kind"
TAG_GAN: Final = "ensgan.gan"
TAG_DATASET: Final = "ensgan.dataset"
TAG_SELECTED: Final = "ensgan.selected"
TAG_RECORD: Final = "ensgan.record"
"""Finds a run again whose creation was not answered; of no interest to people."""
ENSEMBLE_FOLDER: Final = "ensemble"
"""Folder among a sweep's files that holds the selected ensemble."""

_KEY = re.compile(r"[\w.:/ -]{1,250}")


@dataclass(frozen=True)
class RunRecord:
    """A recorded run.

    Attributes:
        run_id: its identifier in the store.
        kind: ``sweep``, ``gan``, ``search``, ``strategy`` …; empty when not ensgan's.
        started: when, with time zone (UTC).
        parent: run ID of the sweep it belongs to, None for a sweep.
        params: settings as text.
        metrics: the last value of each metric; nan where a value was not a number.
        tags: without the tracking server's own (``mlflow.*``).
    """

    run_id: str
    name: str
    kind: str
    status: RunStatus
    started: datetime
    parent: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON-able values; a metric that is not finite becomes None."""
        metrics = {
            key: value if math.isfinite(value) else None for key, value in self.metrics.items()
        }
        started = self.started.isoformat()
        texts = {"params": dict(self.params), "tags": dict(self.tags)}
        return {**vars(self), "started": started, "metrics": metrics, **texts}


class RunStore(Protocol):
    """Where runs, their numbers and their files are kept.

    Every method that reaches a server raises :class:`~ensgan.errors.StoreError` when it cannot be
    reached, and :class:`~ensgan.errors.InputError` for a run that does not exist. Names of
    parameters, metrics and tags consist of letters, digits and ``_-.:/`` or blanks.
    """

    @property
    def uri(self) -> str:
        """Address of the store, without credentials."""

    def prepare(self) -> None:
        """Do now what the first run would wait for (imports, a new database)."""

    def create_run(
        self,
        name: str,
        *,
        kind: str,
        parent: str | None = None,
        params: Mapping[str, object] = ...,
        tags: Mapping[str, str] = ...,
    ) -> str:
        """Start a run and return its ID; values of ``params`` are stored as text."""

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Record settings as text; the same once more changes nothing."""

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record metrics at one step."""

    def log_history(self, run_id: str, rows: Sequence[HistoryRow]) -> None:
        """Record metrics of many steps at once."""

    def log_file(self, run_id: str, path: Path, folder: str = "") -> None:
        """Store a file under ``folder`` (the top when empty)."""

    def log_folder(self, run_id: str, path: Path, folder: str) -> None:
        """Store the content of a folder under ``folder``, sub-folders included."""

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""

    def log_dataset(
        self,
        run_id: str,
        *,
        name: str,
        digest: str,
        source: str = "",
        profile: Mapping[str, object] = ...,
    ) -> None:
        """Record which data a run used: a name, a content digest, where from, sizes."""

    def finish(self, run_id: str, status: RunStatus = "finished") -> None:
        """End a run."""

    def get(self, run_id: str) -> RunRecord:
        """One run."""

    def find(
        self,
        *,
        kind: str = "sweep",
        params: Mapping[str, str] = ...,
        order: str = "-started",
        limit: int = 1000,
    ) -> tuple[RunRecord, ...]:
        """Runs of a kind whose parameters have these values.

        Args:
            order: ``started``, ``name``, ``status``, or the name of a metric, a parameter or a
                tag (without its ``ensgan.``); a leading ``-`` puts the greatest first. Runs
                without that value come last.
        """

    def children(self, run_id: str) -> tuple[RunRecord, ...]:
        """The runs below a run, oldest first."""

    def files(self, run_id: str) -> dict[str, int]:
        """Every stored file: relative POSIX path and size in bytes."""

    def read(self, run_id: str, path: str) -> bytes:
        """The content of one stored file, at most 64 MiB of it.

        Raises:
            InputError: the run has no such file, or it is larger.
        """

    def page(self, run_id: str, path: str) -> str:
        """Where the store's own pages show a stored file, relative to them; empty without any."""

    def fetch(self, run_id: str, folder: str, destination: Path) -> Path:
        """Copy a stored folder to ``destination``, all of it or nothing.

        Raises:
            InputError: the run has no such folder, or ``destination`` is in use.
        """

    def register(self, run_id: str, name: str, alias: str) -> int:
        """Make a run the next version of a model, unless it is one, and move the alias to it.

        Returns:
            the version, from 1.
        """

    def registered(
        self, name: str, *, alias: str | None = None, version: str | None = None
    ) -> str | None:
        """The run with this alias or, without one, of this version of a model; None for none."""

    def serve_pages(self, port: int, on_start: Callable[[str], object]) -> int:
        """Show the store's own pages on 127.0.0.1 until interrupted; the server's exit code.

        Args:
            on_start: called with the address of the pages.

        Raises:
            InputError: the store has no pages or nothing to show, or the port is in use.
        """


def status_named(status: str) -> RunStatus:
    """The status of that name, in any case.

    Raises:
        InputError: there is no such status.
    """
    for known in get_args(RunStatus):
        if status.lower() == known:
            return known  # type: ignore[no-any-return]
    raise InputError(f"'{status}' is not a run status: use {', '.join(get_args(RunStatus))}")


def check_keys(what: str, keys: Iterable[str]) -> None:
    """Refuse names that some backend could not store.

    Raises:
        InputError: with the first bad name.
    """
    for key in keys:
        if not _KEY.fullmatch(key):
            raise InputError(
                f"'{key}' cannot name a {what}: use letters, digits and _-.:/ or blanks, up to 250"
            )


def as_text(values: Mapping[str, object] | None) -> dict[str, str]:
    """Parameters or tags as the text that is stored; no credentials of an address are in it."""
    return {key: hide_credentials(str(value)) for key, value in (values or {}).items()}


def unknown_run(run_id: str, uri: str) -> InputError:
    """The error for a run ID that the store does not know."""
    return InputError(
        f"no run '{run_id}' in {uri}: 'ensgan runs' lists the runs, --storage or --uri "
        "name another store"
    )


def matching(records: Iterable[RunRecord], params: Mapping[str, str]) -> list[RunRecord]:
    """The records whose parameters have all these values."""
    return [record for record in records if params.items() <= dict(record.params).items()]


def sort_runs(
    records: Iterable[RunRecord], order: str, limit: int | None = None
) -> tuple[RunRecord, ...]:
    """Records in the order that :meth:`RunStore.find` describes, at most ``limit``."""
    descending, field_name = order.startswith("-"), order.removeprefix("-")
    value_of = _field(field_name)
    records = sorted(records, key=lambda record: (record.started, record.run_id))
    known = [record for record in records if value_of(record) is not None]
    absent = [record for record in records if value_of(record) is None]
    numeric = all(isinstance(value_of(record), float) for record in known)
    known.sort(
        key=lambda record: value_of(record) if numeric else str(value_of(record)),
        reverse=descending,
    )
    return tuple((known + absent)[:limit])


def _field(name: str) -> Callable[[RunRecord], Any]:
    def value(record: RunRecord) -> float | str | None:
        if name == "started":
            return record.started.timestamp()
        if name in ("name", "status"):
            return str(getattr(record, name))
        if name in record.metrics:
            metric = record.metrics[name]
            return None if math.isnan(metric) else metric
        text = record.params.get(name, record.tags.get(f"ensgan.{name}"))
        try:
            return None if text is None else float(text)
        except ValueError:
            return text

    return value
