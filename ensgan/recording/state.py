"""What is recorded of a sweep and under which run IDs: ``recorded.json`` in its folder."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ensgan.errors import InputError
from ensgan.files import content_key, write_json
from ensgan.store import RunStore
from ensgan.sweep.records import RecordedRuns, RecordFile


class RunBook:
    """Run IDs by name, and the items that are recorded, in a file.

    Args:
        path: the file; absent before the first run is made.

    Attributes:
        runs: run ID by name; empty while the store has been asked for one and has not answered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: dict[str, str] = {}
        self._done: dict[str, None] = {}

    def read(self) -> None:
        """Read the file.

        Raises:
            DataError: it is damaged or foreign.
        """
        file = RecordFile.load(self.path)
        self.runs, self._done = dict(file.runs), dict.fromkeys(file.done)

    def is_done(self, name: str) -> bool:
        """Whether an item has been recorded."""
        return name in self._done

    def mark(self, name: str) -> None:
        """An item has been recorded."""
        self._done[name] = None
        self.save()

    def save(self) -> None:
        """Write the file."""
        write_json(self.path, RecordFile(runs=self.runs, done=tuple(self._done)).tree())


class RecordState(RunBook):
    """The state of one spec in one store; those of a sweep's other specs are kept beside it."""

    def __init__(self, path: Path, store: RunStore) -> None:
        super().__init__(path)
        self.store = store
        self._state = RecordedRuns()
        self._earlier: tuple[RecordedRuns, ...] = ()

    def open(self, spec: Mapping[str, Any], name: str) -> None:
        """Read the state of a spec; one that ran before it and never ended is ended now.

        Args:
            spec: as the manifest holds it.
            name: of the sweep, and so of its run.

        Raises:
            DataError: the file is damaged or foreign.
            StoreError: the store cannot be reached.
        """
        file = RecordFile.load(self.path)
        latest = RecordedRuns(**{key: getattr(file, key) for key in RecordedRuns.model_fields})
        states = (latest, *file.earlier) if latest.runs else file.earlier
        state = next((each for each in states if self._is_ours(each, spec, name)), None)
        if state is not latest and latest.runs:
            self._end_if_running(latest, name)
        self._earlier = tuple(each for each in states if each is not state)
        state = state or RecordedRuns()
        self.runs = dict(state.runs)
        self._done = dict.fromkeys(state.done)
        self._state = RecordedRuns(
            key=content_key(spec, self.store.uri),
            uri=self.store.uri,
            nonce=state.nonce or uuid.uuid4().hex,
        )

    def _is_ours(self, state: RecordedRuns, spec: Mapping[str, Any], name: str) -> bool:
        """Whether a state is of this spec in this store, which may have moved with its folder."""
        if state.key != content_key(spec, state.uri):
            return False
        return state.uri == self.store.uri or self._knows(state.runs.get(name))

    def _knows(self, run_id: str | None) -> bool:
        """Whether the store has the run: IDs are unique in the world."""
        with suppress(InputError):
            return bool(run_id) and self.store.get(str(run_id)).run_id == run_id
        return False

    def token(self, name: str) -> str:
        """A unique text to find this run by, should the answer to its creation get lost."""
        return f"{self._state.nonce}:{name}"

    def save(self) -> None:
        """Write the file."""
        values = {**self._state.tree(), "runs": self.runs, "done": tuple(self._done)}
        file = RecordFile.model_construct(**{**values, "earlier": self._earlier})
        write_json(self.path, file.tree())

    def _end_if_running(self, state: RecordedRuns, name: str) -> None:
        run_id = state.runs.get(name)
        if run_id and state.uri == self.store.uri:
            with suppress(InputError):  # somebody has deleted it
                if self.store.get(run_id).status == "running":
                    self.store.finish(run_id, "killed")
