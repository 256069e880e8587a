"""Reading runs through an MLflow client: tracking servers and databases other than SQLite."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ensgan.errors import StoreError
from ensgan.outputs import folder_in_one_step
from ensgan.store.base import TAG_KIND, RunRecord, matching, sort_runs
from ensgan.store.folders import (
    check_destination,
    check_folder,
    check_readable,
    refuse_links,
    unknown_folder,
)
from ensgan.store.mlflow import PAGES, Connection
from ensgan.store.sqlite import PARENT_TAG, record_from
from ensgan.text import printable

MOST_FILES: Final = 100_000
MOST_FOLDERS: Final = 200
DEEPEST: Final = 16
MOST_PAGES: Final = 1000
"""Of one listing; a server that answers with more does not mean it, and may never end."""


class ClientReader:
    """The reading half of :class:`~ensgan.store.base.RunStore` on an MLflow client.

    What a server answers is not believed: listings end, paths stay in the folder that was asked
    for.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client, self._reported = connection.client, connection.reported

    def get(self, run_id: str) -> RunRecord:
        """See :meth:`RunStore.get`."""
        with self._reported(run_id):
            return _record(self._client().get_run(run_id))

    def find(
        self, *, kind: str, params: Mapping[str, str], order: str, limit: int
    ) -> tuple[RunRecord, ...]:
        """See :meth:`RunStore.find`; all experiments are searched."""
        return sort_runs(matching(self._tagged(TAG_KIND, kind), params), order, limit)

    def children(self, run_id: str) -> tuple[RunRecord, ...]:
        """See :meth:`RunStore.children`."""
        self.get(run_id)
        return sort_runs(self._tagged(PARENT_TAG, run_id), "started")

    def files(self, run_id: str) -> dict[str, int]:
        """See :meth:`RunStore.files`."""
        with self._reported(run_id):
            return dict(sorted(self._listed(run_id)))

    def read(self, run_id: str, path: str) -> bytes:
        """See :meth:`RunStore.read`."""
        check_folder(path)
        above = path.rpartition("/")[0] or None
        with self._reported(run_id):
            client = self._connection.client_for_files(run_id)
            entries = client.list_artifacts(run_id, above)
            sizes = {str(entry.path): entry.file_size or 0 for entry in entries if not entry.is_dir}
        check_readable(run_id, path, sizes.get(path))
        with tempfile.TemporaryDirectory(prefix="ensgan-read-") as temporary:
            with self._reported(run_id):
                client.download_artifacts(run_id, path, temporary)
            refuse_links(Path(temporary))
            # MLflow keeps the folders above the file with some stores and drops them with others.
            name = path.rpartition("/")[2]
            return next(Path(temporary).rglob(name)).read_bytes()

    def page(self, run_id: str, path: str) -> str:
        """See :meth:`RunStore.page`."""
        with self._reported(run_id):
            experiment = self._client().get_run(run_id).info.experiment_id
        # Without the last part MLflow shows its pages about language models around the run.
        return f"#/experiments/{experiment}/runs/{run_id}/artifacts/{path}?{PAGES}"

    def fetch(self, run_id: str, folder: str, destination: Path) -> Path:
        """See :meth:`RunStore.fetch`."""
        check_folder(folder)
        check_destination(destination)
        known = self.files(run_id)
        if not any(name.startswith(f"{folder}/") for name in known):
            raise unknown_folder(run_id, folder, known)
        # On the destination's file system, so that what has arrived can be moved.
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=destination.parent) as temporary:
            with self._reported(run_id):
                client = self._connection.client_for_files(run_id)
                client.download_artifacts(run_id, folder, temporary)
            refuse_links(Path(temporary))
            with folder_in_one_step(destination) as arriving:
                for path in (Path(temporary) / folder).iterdir():
                    path.rename(arriving / path.name)
        return destination

    def _listed(self, run_id: str) -> Iterator[tuple[str, int]]:
        """Paths and sizes of all files of a run.

        Raises:
            StoreError: the listing names things outside the folder that was asked for, or does
                not end.
        """
        client, files, asked = self._connection.client_for_files(run_id), 0, 0
        folders = [""]
        while folders:
            folder, asked = folders.pop(), asked + 1
            for entry in client.list_artifacts(run_id, folder or None):
                path = str(entry.path)
                above, _, name = path.rpartition("/")
                if above != folder or name in ("", ".", ".."):
                    raise StoreError(
                        f"{self._connection.shown} lists '{printable(path)[:80]}' in "
                        f"'{folder[:80]}' of run {run_id}: it answers nonsense"
                    )
                if entry.is_dir:
                    folders.append(path)
                else:
                    files += 1
                    yield path, int(entry.file_size or 0)
            if (
                files > MOST_FILES
                or asked + len(folders) > MOST_FOLDERS
                or folder.count("/") > DEEPEST
            ):
                raise StoreError(
                    f"{self._connection.shown} lists more than {MOST_FILES} files, {MOST_FOLDERS} "
                    f"folders or {DEEPEST} levels of run {run_id}: it answers nonsense"
                )

    def _tagged(self, tag: str, value: str) -> list[RunRecord]:
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        with self._reported(None):
            client = self._client()
            experiments = [entry.experiment_id for entry in _pages(client.search_experiments)]
            runs = _pages(
                client.search_runs,
                experiment_ids=experiments,
                filter_string=f"tags.`{tag}` = '{quoted}'",
            )
            return [_record(run) for run in runs]


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
