"""What a store keeps of a run, and how records are named and sorted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

from ensgan.errors import InputError

RunStatus: TypeAlias = Literal["running", "finished", "failed", "killed"]
HistoryRow: TypeAlias = tuple[int, Mapping[str, float]]
"""A step and the metrics measured at it."""

TAG_KIND: Final = "ensgan.kind"
KINDS: Final = ("sweep", "gan", "search", "strategy", "bank")
"""Kinds of runs."""
TAG_GAN: Final = "ensgan.gan"
TAG_DATASET: Final = "ensgan.dataset"
TAG_SELECTED: Final = "ensgan.selected"
TAG_RECORD: Final = "ensgan.record"
"""Finds a run again whose creation was not answered; of no interest to people."""
TAG_PARENT: Final = "mlflow.parentRunId"
"""Run ID of the run above; MLflow's pages draw their tree by it."""
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

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


@dataclass(frozen=True)
class Batch:
    """What is sent to a run at once: settings, metrics of many steps, tags. Names are checked."""

    params: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[HistoryRow] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_keys("parameter", self.params)
        check_keys("metric", (key for _, metrics in self.rows for key in metrics))
        check_keys("tag", self.tags)


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


def sort_runs(records: Iterable[RunRecord], order: str) -> tuple[RunRecord, ...]:
    """Records in the order that :meth:`RunStore.find` describes."""
    name, descending = order.removeprefix("-"), order.startswith("-")
    records = sorted(records, key=lambda record: (record.started, record.run_id))
    known = [(value, one) for one in records if (value := _value(one, name)) is not None]
    absent = [one for one in records if _value(one, name) is None]
    numeric = all(isinstance(value, float) for value, _ in known)
    known.sort(key=lambda pair: pair[0] if numeric else str(pair[0]), reverse=descending)
    return (*(one for _, one in known), *absent)


def _value(record: RunRecord, name: str) -> Any:
    """What a record is sorted by: a number, else a text, None where it has no such value."""
    if name == "started":
        return record.started.timestamp()
    if name in ("name", "status"):
        return str(getattr(record, name))
    if name in record.metrics:
        return None if math.isnan(record.metrics[name]) else record.metrics[name]
    text = record.params.get(name, record.tags.get(f"ensgan.{name}"))
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
