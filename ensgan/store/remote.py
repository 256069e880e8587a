"""Runs and files through an MLflow client: tracking servers, databases other than SQLite."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ensgan.errors import StoreError
from ensgan.store.mlflow import Connection
from ensgan.store.record import RunRecord, refuse_links, sizes
from ensgan.store.sqlite import record_from
from ensgan.text import printable

MOST_FILES: Final = 100_000
MOST_FOLDERS: Final = 200
DEEPEST: Final = 16
MOST_PAGES: Final = 1000
"""Limits of one listing: a server that exceeds them is broken and might never end."""


class ClientReader:
    """Reads runs through an MLflow client."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, run_id: str) -> RunRecord:
        """See :meth:`RunStore.get`."""
        with self._connection.reported(run_id):
            return _record(self._connection.client().get_run(run_id))

    def experiment_of(self, run_id: str) -> str:
        """ID of the experiment that a run is in."""
        with self._connection.reported(run_id):
            return str(self._connection.client().get_run(run_id).info.experiment_id)

    def has_tag(self, experiment: str, tag: str) -> bool:
        """Whether an experiment carries a tag."""
        with self._connection.reported():
            return tag in self._connection.client().get_experiment(experiment).tags

    def tagged(self, tag: str, value: str) -> list[RunRecord]:
        """All runs of all experiments whose tag has this value."""
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        with self._connection.reported():
            client = self._connection.client()
            experiments = [entry.experiment_id for entry in _pages(client.search_experiments)]
            runs = _pages(
                client.search_runs,
                experiment_ids=experiments,
                filter_string=f"tags.`{tag}` = '{quoted}'",
            )
            return [_record(run) for run in runs]


class RemoteFiles:
    """The files of a run that only MLflow can reach; see :class:`~ensgan.store.record.Files`.

    Answers of the server are not trusted: listings are bounded, and paths must lie in the folder
    that was asked for.
    """

    def __init__(self, connection: Connection, run_id: str) -> None:
        self._connection, self._run_id = connection, run_id

    @contextmanager
    def _client(self) -> Iterator[Any]:
        with self._connection.reported(self._run_id):
            yield self._connection.client_for_files(self._run_id)

    def sizes(self) -> dict[str, int]:
        """See :meth:`Files.sizes`."""
        with self._client() as client:
            return dict(sorted(self._listed(client)))

    def size(self, path: str) -> int | None:
        """See :meth:`Files.size`."""
        with self._client() as client:
            entries = client.list_artifacts(self._run_id, path.rpartition("/")[0] or None)
            known = {str(entry.path): entry.file_size or 0 for entry in entries if not entry.is_dir}
        return known.get(path)

    def read(self, path: str) -> bytes:
        """See :meth:`Files.read`."""
        with tempfile.TemporaryDirectory(prefix="ensgan-read-") as temporary:
            with self._client() as client:
                client.download_artifacts(self._run_id, path, temporary)
            refuse_links(Path(temporary))
            # MLflow keeps the folders above the file with some stores and drops them with others.
            return next(Path(temporary).rglob(path.rpartition("/")[2])).read_bytes()

    def add_file(self, path: Path, folder: str) -> None:
        """See :meth:`Files.add_file`."""
        with self._client() as client:
            client.log_artifact(self._run_id, str(path), folder or None)

    def add_folder(self, path: Path, folder: str) -> None:
        """See :meth:`Files.add_folder`; what has arrived is compared with what was sent."""
        with self._client() as client:
            client.log_artifacts(self._run_id, str(path), folder)
        arrived = self.sizes()
        for name, size in sizes(path).items():
            stored = arrived.get(f"{folder}/{name}")
            if stored != size:
                raise StoreError(
                    f"{name} of {folder} did not arrive whole in {self._connection.shown}: {size} "
                    f"bytes sent, {stored or 0} stored; send the run again with 'ensgan sync'"
                )

    def copy(self, folder: str, destination: Path) -> None:
        """See :meth:`Files.copy`."""
        # On the destination's file system, so that what has arrived can be moved.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=destination.parent) as temporary:
            with self._client() as client:
                client.download_artifacts(self._run_id, folder, temporary)
            refuse_links(Path(temporary))
            for path in (Path(temporary) / folder).iterdir():
                path.rename(destination / path.name)

    def _listed(self, client: Any) -> Iterator[tuple[str, int]]:
        """Paths and sizes of all files of the run.

        Raises:
            StoreError: the listing names things outside the folder that was asked for, or does
                not end.
        """
        files, asked, folders = 0, 0, [""]
        while folders:
            folder, asked = folders.pop(), asked + 1
            for entry in client.list_artifacts(self._run_id, folder or None):
                path = str(entry.path)
                above, _, name = path.rpartition("/")
                if above != folder or name in ("", ".", ".."):
                    raise StoreError(
                        f"{self._connection.shown} lists '{printable(path)[:80]}' in "
                        f"'{folder[:80]}' of run {self._run_id}: it answers nonsense"
                    )
                if entry.is_dir:
                    folders.append(path)
                else:
                    files += 1
                    yield path, int(entry.file_size or 0)
            depth = folder.count("/")
            if files > MOST_FILES or asked + len(folders) > MOST_FOLDERS or depth > DEEPEST:
                raise StoreError(
                    f"{self._connection.shown} lists more than {MOST_FILES} files, {MOST_FOLDERS} "
                    f"folders or {DEEPEST} levels of run {self._run_id}: it answers nonsense"
                )


def _record(run: Any) -> RunRecord:
    return record_from(
        str(run.info.run_id),
        run.info.run_name,
        str(run.info.status),
        run.info.start_time,
        run.data.params,
        run.data.metrics,
        run.data.tags,
    )


def _pages(search: Any, **arguments: Any) -> Iterator[Any]:
    tokens = [None]
    while len(tokens) <= MOST_PAGES:
        page = search(page_token=tokens[-1], **arguments)
        yield from page
        if not page.token:
            return
        if page.token in tokens:
            break
        tokens.append(page.token)
    raise StoreError("the tracking server's list of runs does not end: it answers nonsense")
