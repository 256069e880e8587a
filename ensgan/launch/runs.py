"""Recorded sweeps from Python: ``ensgan.runs()`` and ``ensgan.load_run(ID)``."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ensgan.ensemble import Ensemble, load_ensemble
from ensgan.files import write_bytes
from ensgan.outputs import claim_output
from ensgan.report.content import Content, collect
from ensgan.report.page import render
from ensgan.store import RunRecord, RunStore, find_run, open_store
from ensgan.types import Front, FrontPoint
from ensgan.types.display import table_html

if TYPE_CHECKING:
    import pandas


def runs(*, storage: Path | str | None = None, uri: str | None = None) -> tuple[RunRecord, ...]:
    """The recorded sweeps, the latest first.

    Args:
        storage: folder of the sweeps (``ENSGAN_STORAGE``, else ``./ensgan-runs``).
        uri: tracking address (``MLFLOW_TRACKING_URI``, else the SQLite file in ``storage``).

    Raises:
        StoreError: the tracking server cannot be reached.
    """
    return open_store(uri, storage).find()


def load_run(
    run: str, *, storage: Path | str | None = None, uri: str | None = None
) -> RecordedSweep:
    """A recorded sweep to look at; its places are those of :func:`runs`.

    Args:
        run: its ID or the beginning of it, the name of a sweep, or ``latest``.

    Raises:
        InputError: no such run, or it is no finished sweep.
        StoreError: the tracking server cannot be reached.
    """
    store = open_store(uri, storage)
    return RecordedSweep(collect(store, find_run(store, run)), store, storage)


class RecordedSweep:
    """What a finished sweep recorded.

    Attributes:
        content: everything as its report shows it.
    """

    def __init__(self, content: Content, store: RunStore, storage: Path | str | None) -> None:
        self.content = content
        self._store = store
        self._storage = storage

    def __repr__(self) -> str:
        record = self.content.record
        return f"RecordedSweep({record.name}, {record.run_id}, G* {', '.join(self.selected_names)})"

    def _repr_html_(self) -> str:
        """The downstream table and the members."""
        parts = [table_html(["run"], [[repr(self)]])]
        for frame in (self.table, self.members):
            if frame is not None:
                parts.append(table_html(list(frame.columns), frame.to_numpy().tolist()))
        return "".join(parts)

    @property
    def run_id(self) -> str:
        """Its run ID."""
        return self.content.record.run_id

    @property
    def front(self) -> Front | None:
        """The Pareto front."""
        return self.content.front

    @property
    def selected(self) -> FrontPoint | None:
        """G*, where it is a point of the front."""
        return self.content.selected

    @property
    def selected_names(self) -> tuple[str, ...]:
        """Members of G*."""
        return self.content.manifest.chosen

    @cached_property
    def members(self) -> pandas.DataFrame:
        """One row per member: Intra-d, density, coverage, whether it was selected."""
        import pandas

        keys = ("name", "intra_d", "density", "coverage")
        results = self.content.manifest.members.values()
        rows = [{key: getattr(result, key) for key in keys} for result in results]
        frame = pandas.DataFrame(rows, columns=list(keys))
        return frame.assign(selected=frame["name"].isin(self.selected_names))

    @cached_property
    def table(self) -> pandas.DataFrame | None:
        """One row per downstream strategy: means of its metrics; None without a downstream test."""
        import pandas

        if self.content.table is None:
            return None
        return pandas.DataFrame(
            {
                "strategy": row["strategy"],
                **{name: spread["mean"] for name, spread in row["metrics"].items()},
                "members": len(row["members"]),
                "repeats": row["repeats"],
            }
            for row in self.content.table["strategies"]
        )

    def ensemble(self) -> Ensemble:
        """The selected ensemble, verified.

        Raises:
            InputError: the run has none.
        """
        return load_ensemble(self.run_id, storage=self._storage, uri=self._store.uri)

    def report(self, path: Path | str = "report.html", *, force: bool = False) -> Path:
        """Write its report, one HTML file.

        Raises:
            InputError: something is at ``path`` (``force`` replaces it).
        """
        output = claim_output(Path(path), force=force)
        write_bytes(output, render(self.content).encode())
        return output
