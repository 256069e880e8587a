"""What a store keeps of a run: its values, named and sorted, and its files.

Files are copied so that no half copy is ever seen.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

from ensgan.errors import InputError, IntegrityError
from ensgan.files import atomic_path

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
"""A token by which a run is found again when the answer to its creation was lost."""
TAG_REPLACED: Final = "ensgan.replaced"
"""Why a run ended before its sweep did, which went on as another run."""
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

    def __repr__(self) -> str:
        """Without the hundreds of settings and scores of a sweep."""
        begun = f"{self.started:%Y-%m-%d %H:%M}"
        return f"RunRecord({self.name}, {self.kind} {self.status}, {begun}, {self.run_id})"

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
    """Records in an order.

    Args:
        order: ``started``, ``name``, ``status``, or the name of a metric, a parameter or a tag
            (without its ``ensgan.``); a leading ``-`` puts the greatest first. Runs without that
            value come last.
    """
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


ENSEMBLE_FOLDER: Final = "ensemble"
"""Folder among a sweep's files that holds the selected ensemble."""
LARGEST_READ: Final = 64 << 20
"""Bytes of a file that :meth:`RunStore.read` hands over; greater ones are fetched by folder."""
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+~-]*(/[A-Za-z0-9][A-Za-z0-9._@+~-]*)*")


class Files(Protocol):
    """The files of one run. Paths are relative POSIX paths that :func:`check_folder` has passed."""

    def sizes(self) -> dict[str, int]:
        """Every file with its size in bytes, sorted by path."""

    def size(self, path: str) -> int | None:
        """Bytes of a plain file; None where there is none."""

    def read(self, path: str) -> bytes:
        """Content of a file that is there."""

    def add_file(self, path: Path, folder: str) -> None:
        """Store a file in a folder, the top when empty."""

    def add_folder(self, path: Path, folder: str) -> None:
        """Store what a folder holds in another."""

    def copy(self, folder: str, destination: Path) -> None:
        """Copy what a folder holds to an empty one.

        Raises:
            IntegrityError: there is a link or a special file among it.
        """


@dataclass(frozen=True)
class LocalFiles:
    """Files of a run that lie on this machine, below ``root``."""

    root: Path

    def sizes(self) -> dict[str, int]:
        """See :meth:`Files.sizes`."""
        return sizes(self.root)

    def size(self, path: str) -> int | None:
        """See :meth:`Files.size`; a link that leads out of the run's files does not count."""
        file = self.root / path
        plain = file.is_file() and file.resolve().is_relative_to(self.root.resolve())
        return file.stat().st_size if plain else None

    def read(self, path: str) -> bytes:
        """See :meth:`Files.read`."""
        return (self.root / path).read_bytes()

    def add_file(self, path: Path, folder: str) -> None:
        """See :meth:`Files.add_file`."""
        with atomic_path(self.root / folder / path.name) as temporary:
            shutil.copyfile(path, temporary)

    def add_folder(self, path: Path, folder: str) -> None:
        """See :meth:`Files.add_folder`."""
        for name in sizes(path):
            self.add_file(path / name, str(PurePosixPath(folder, name).parent))

    def copy(self, folder: str, destination: Path) -> None:
        """See :meth:`Files.copy`."""
        refuse_links(self.root / folder)
        # One by one: copytree goes on where the disk is full, and says so of every file.
        for name in sizes(self.root / folder):
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / folder / name, destination / name)


def sizes(folder: Path) -> dict[str, int]:
    """Every file below ``folder``: relative POSIX path and size in bytes, sorted by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def refuse_links(folder: Path) -> None:
    """Make sure that a folder holds nothing but plain files and folders.

    Raises:
        IntegrityError: naming the first thing that is neither.
    """
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(
                f"{path.relative_to(folder).as_posix()} is a link or a special file: only plain "
                "files are accepted in an artifact"
            )


def check_folder(folder: str) -> str:
    """A folder name inside a run's files, proven free of ``..``, absolute paths and odd signs.

    Raises:
        InputError: it is not.
    """
    if not _FOLDER.fullmatch(folder):
        raise InputError(
            f"'{folder}' cannot name a folder of a run: use letters, digits and ._@+- between '/'"
        )
    return folder


def unknown_folder(run_id: str, folder: str, files: Iterable[str]) -> InputError:
    """The error for a folder that a run does not have."""
    known = sorted({path.partition("/")[0] for path in files})
    return InputError(
        f"run {run_id} has no '{folder}' folder; it has {', '.join(known) or 'no files'}"
        + (": wait until its sweep has finished" if folder == ENSEMBLE_FOLDER else "")
    )
