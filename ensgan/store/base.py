"""What a store of runs must do, whatever keeps it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ensgan.store.record as run_records
from ensgan.errors import InputError, StoreError
from ensgan.outputs import claim_folder, folder_in_one_step
from ensgan.text import hide_credentials


class RunStore(ABC):
    """Where runs, their numbers and their files are kept.

    A store says how runs, files and models are kept (the abstract methods); the rules that hold
    for every store are here, once. Every method that reaches a server raises
    :class:`~ensgan.errors.StoreError` when it cannot be reached, and
    :class:`~ensgan.errors.InputError` for a run that does not exist. Names of parameters, metrics
    and tags consist of letters, digits and ``_-.:/`` or blanks.
    """

    @property
    @abstractmethod
    def uri(self) -> str:
        """Address of the store, without credentials."""

    @abstractmethod
    def prepare(self) -> None:
        """Do the slow work of the first run ahead of time (imports, creating a database)."""

    def create_run(
        self,
        name: str,
        *,
        kind: str,
        parent: str | None = None,
        params: Mapping[str, object] = run_records.NOTHING,
        tags: Mapping[str, str] = run_records.NOTHING,
    ) -> str:
        """Start a run and return its ID; values of ``params`` are stored as text."""
        first = run_records.Batch(
            as_text(params), tags={run_records.TAG_KIND: kind, **as_text(tags)}
        )
        below = {} if parent is None else {run_records.TAG_PARENT: self.get(parent).run_id}
        run_id = self._create(name, {**first.tags, **below})
        self._send(run_id, run_records.Batch(first.params))
        return run_id

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Record settings as text; the same once more changes nothing."""
        self._send(run_id, run_records.Batch(params=as_text(params)))

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record metrics at one step."""
        self.log_history(run_id, [(step, metrics)])

    def log_history(self, run_id: str, rows: Sequence[run_records.HistoryRow]) -> None:
        """Record metrics of many steps at once."""
        self._send(run_id, run_records.Batch(rows=rows))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        self._send(run_id, run_records.Batch(tags=as_text(tags)))

    def log_file(self, run_id: str, path: Path, folder: str = "") -> None:
        """Store a file under ``folder`` (the top when empty)."""
        if not path.is_file():
            raise StoreError(f"cannot store {path}: no such file")
        self._files(run_id).add_file(path, run_records.check_folder(folder) if folder else "")

    def log_folder(self, run_id: str, path: Path, folder: str) -> None:
        """Store the content of a folder under ``folder``, sub-folders included."""
        if not path.is_dir():
            raise StoreError(f"cannot store {path}: no such folder")
        self._files(run_id).add_folder(path, run_records.check_folder(folder))

    @abstractmethod
    def log_dataset(
        self, run_id: str, *, name: str, digest: str, source: str, sizes: Mapping[str, int]
    ) -> None:
        """Record the data that a run used: name, content digest, origin, images by split."""

    @abstractmethod
    def finish(self, run_id: str, status: run_records.RunStatus = "finished") -> None:
        """End a run."""

    @abstractmethod
    def get(self, run_id: str) -> run_records.RunRecord:
        """One run."""

    def find(self, kind: str = "sweep") -> tuple[run_records.RunRecord, ...]:
        """Runs of a kind in all experiments, the newest first."""
        return run_records.sort_runs(self._tagged(run_records.TAG_KIND, kind), "-started")

    def children(self, run_id: str) -> tuple[run_records.RunRecord, ...]:
        """The runs below a run, oldest first."""
        self.get(run_id)
        return run_records.sort_runs(self._tagged(run_records.TAG_PARENT, run_id), "started")

    def files(self, run_id: str) -> dict[str, int]:
        """Every stored file: relative POSIX path and size in bytes."""
        return self._files(run_id).sizes()

    def read(self, run_id: str, path: str) -> bytes:
        """The content of one stored file, at most 64 MiB of it.

        Raises:
            InputError: the run has no such file, or it is larger.
        """
        run_records.check_folder(path)
        files = self._files(run_id)
        size = files.size(path)
        if size is None:
            raise InputError(
                f"run {run_id} has no file '{path}': 'ensgan show RUN' lists its files"
            )
        if size > run_records.LARGEST_READ:
            raise InputError(
                f"'{path}' of run {run_id} has {size} bytes, more than the "
                f"{run_records.LARGEST_READ} read at once"
            )
        return files.read(path)

    def fetch(self, run_id: str, folder: str, destination: Path) -> Path:
        """Copy a stored folder to ``destination``, all of it or nothing.

        Raises:
            InputError: the run has no such folder, or ``destination`` is in use.
            IntegrityError: the folder holds a link or a special file.
        """
        claim_folder(destination)
        inside = f"{run_records.check_folder(folder)}/"
        files = self._files(run_id)
        known = files.sizes()
        if not any(name.startswith(inside) for name in known):
            raise run_records.unknown_folder(run_id, folder, known)
        with folder_in_one_step(destination) as arriving:
            files.copy(folder, arriving)
        return destination

    @abstractmethod
    def page(self, run_id: str, path: str = "") -> str:
        """Where the store's own pages show a run, or a stored file of it, relative to them.

        Empty where the store has no pages.
        """

    def list_page(self, run_id: str) -> str:
        """Where the store's own pages list the runs that a run is among; as :meth:`page`."""
        return ""

    @abstractmethod
    def register(self, run_id: str, name: str, alias: str) -> int:
        """Make a run the next version of a model, unless it is one, and move the alias to it.

        Returns:
            the version, from 1.
        """

    @abstractmethod
    def registered(
        self, name: str, *, alias: str | None = None, version: str | None = None
    ) -> str | None:
        """The run with this alias or, without one, of this version of a model; None for none."""

    @abstractmethod
    def serve_pages(self, port: int, on_start: Callable[[str], object]) -> int:
        """Show the store's own pages on 127.0.0.1 until interrupted; the server's exit code.

        Args:
            on_start: called with the address of the pages, once they answer.

        Raises:
            InputError: the store has no pages or nothing to show, or the port is in use.
        """

    @abstractmethod
    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        """Start a run and return its ID; tags say its kind and, where it has one, its parent."""

    @abstractmethod
    def _send(self, run_id: str, batch: run_records.Batch) -> None:
        """Store settings, metrics and tags of a run."""

    @abstractmethod
    def _tagged(self, tag: str, value: str) -> list[run_records.RunRecord]:
        """All runs with :data:`TAG_KIND` or :data:`TAG_PARENT` of this value."""

    @abstractmethod
    def _files(self, run_id: str) -> run_records.Files:
        """The files of a run, which exists."""


def as_text(values: Mapping[str, object]) -> dict[str, str]:
    """Parameters or tags as the text that is stored; no credentials of an address are in it."""
    return {key: hide_credentials(str(value)) for key, value in values.items()}


def unknown_run(run_id: str, uri: str, near: str = "") -> InputError:
    """The error for a run ID that the store does not know; ``near``: a name like it."""
    meant = f"did you mean '{near}'? " if near else ""
    return InputError(
        f"no run '{run_id}' in {uri}: {meant}'ensgan runs' lists the runs, --storage or --uri "
        "name another store"
    )
