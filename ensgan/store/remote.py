"""Reading runs through an MLflow client: tracking servers and databases other than SQLite."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from ensgan.store.base import (
    TAG_KIND,
    RunRecord,
    check_destination,
    check_folder,
    check_readable,
    matching,
    sort_runs,
    unknown_folder,
)
from ensgan.store.folders import folder_in_one_step, refuse_links
from ensgan.store.sqlite import PARENT_TAG, record_from

PAGES: Final = "workflowType=machine_learning"
"""Which of its two sets of pages MLflow is to show."""


class ClientReader:
    """The reading half of :class:`~ensgan.store.base.RunStore` on an MLflow client.

    Args:
        client: gives the client, connecting when it has to.
        reported: context that turns MLflow's errors into ensgan's, for a run ID or None.
    """

    def __init__(
        self,
        client: Callable[[], Any],
        reported: Callable[[str | None], AbstractContextManager[None]],
    ) -> None:
        self._client = client
        self._reported = reported

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
            self._client().get_run(run_id)
            return dict(sorted(self._listed(run_id, None)))

    def read(self, run_id: str, path: str) -> bytes:
        """See :meth:`RunStore.read`."""
        check_folder(path)
        above = path.rpartition("/")[0] or None
        with self._reported(run_id):
            entries = self._client().list_artifacts(run_id, above)
            sizes = {str(entry.path): entry.file_size or 0 for entry in entries if not entry.is_dir}
        check_readable(run_id, path, sizes.get(path))
        with tempfile.TemporaryDirectory(prefix="ensgan-read-") as temporary:
            with self._reported(run_id):
                self._client().download_artifacts(run_id, path, temporary)
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
                self._client().download_artifacts(run_id, folder, temporary)
            refuse_links(Path(temporary))
            with folder_in_one_step(destination) as arriving:
                for path in (Path(temporary) / folder).iterdir():
                    path.rename(arriving / path.name)
        return destination

    def _listed(self, run_id: str, folder: str | None) -> Iterator[tuple[str, int]]:
        for entry in self._client().list_artifacts(run_id, folder):
            if entry.is_dir:
                yield from self._listed(run_id, entry.path)
            else:
                yield str(entry.path), int(entry.file_size or 0)

    def _tagged(self, tag: str, value: str) -> list[RunRecord]:
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        with self._reported(None):
            client = self._client()
            experiments = [found.experiment_id for found in _pages(client.search_experiments)]
            found = _pages(
                client.search_runs,
                experiment_ids=experiments,
                filter_string=f"tags.`{tag}` = '{quoted}'",
            )
            return [_record(run) for run in found]


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
    token = None
    while True:
        page = search(page_token=token, **arguments)
        yield from page
        token = page.token
        if not token:
            return
