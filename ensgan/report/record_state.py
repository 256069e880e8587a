"""What of a sweep, or of a later evaluation, is recorded already, and under which run IDs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensgan.errors import InputError
from ensgan.files import content_key, write_json
from ensgan.report import views
from ensgan.report.content import leaves
from ensgan.store import TAG_REPLACED, RunStore
from ensgan.sweep.environment import environment
from ensgan.sweep.records import RecordedRuns, RecordFile

if TYPE_CHECKING:
    from ensgan.evaluation.evaluate import Evaluation


class RunBook:
    """Run IDs by name, and the items that are recorded, in a file.

    Args:
        path: the file; absent before the first run is made.

    Attributes:
        runs: run ID by name; empty while the store has not answered the request for one.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._state = path, RecordFile()
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
        now = self._state.model_copy(update={"runs": self.runs, "done": tuple(self._done)})
        write_json(self.path, now.tree())


class RecordState(RunBook):
    """The state of one spec in one store; those of the sweep's other specs are kept with it."""

    def __init__(self, path: Path, store: RunStore) -> None:
        super().__init__(path)
        self.store = store

    def open(self, spec: Mapping[str, Any], name: str) -> None:
        """Read the state of a spec; the run of an earlier spec that never ended is ended now.

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
        earlier = tuple(each for each in states if each is not state)
        state = state or RecordedRuns()
        self.runs, self._done = dict(state.runs), dict.fromkeys(state.done)
        self._state = RecordFile(
            key=content_key(spec, self.store.uri),
            uri=self.store.uri,
            nonce=state.nonce or uuid.uuid4().hex,
            earlier=earlier,
        )

    def _is_ours(self, state: RecordedRuns, spec: Mapping[str, Any], name: str) -> bool:
        """Whether a state is of this spec in this store, even if the store's folder has moved."""
        if state.key != content_key(spec, state.uri):
            return False
        return state.uri == self.store.uri or self._knows(state.runs.get(name))

    def _knows(self, run_id: str | None) -> bool:
        """Whether the store has this run; run IDs are globally unique."""
        with suppress(InputError):
            return bool(run_id) and self.store.get(str(run_id)).run_id == run_id
        return False

    def token(self, name: str) -> str:
        """A unique text by which this run is found if the answer to its creation got lost."""
        return f"{self._state.nonce}:{name}"

    def _end_if_running(self, state: RecordedRuns, name: str) -> None:
        run_id = state.runs.get(name)
        if run_id:
            with suppress(InputError):  # it was deleted, or is in another store
                if self.store.get(run_id).status == "running":
                    self.store.set_tags(run_id, {TAG_REPLACED: "grown or changed before its end"})
                    self.store.finish(run_id, "killed")


def record_evaluation(evaluation: Evaluation, store: RunStore) -> dict[str, str]:
    """Record what is not yet recorded; doing it again adds nothing.

    Returns:
        Run ID of every strategy.

    Raises:
        InputError: the sweep itself has no run in this store.
        StoreError: the store cannot be reached; what is recorded stays recorded.
    """
    sweep = evaluation.sweep
    if sweep.run_id is None:
        raise InputError(
            f"sweep '{sweep.spec.name}' has no recorded run that the strategies could belong to: "
            f"`ensgan sync {sweep.spec.name}` records it"
        )
    store.get(sweep.run_id)
    book = RunBook(sweep.folder.file("evaluate", "recorded.json"))
    book.read()
    run_ids = {}
    settings = evaluation.settings()
    shared, tags = _shared(evaluation)
    for row in evaluation.table:
        name, value = row.strategy, row.to_json()
        if row.test_images is None:  # runs of earlier versions have keys without these fields
            value = {k: v for k, v in value.items() if k not in ("test_images", "test_difference")}
        key = content_key(store.uri, sweep.run_id, settings, value)
        if key not in book.runs:
            params = {"strategy": name, "members": len(row.members), "draws": row.draws}
            book.runs[key] = store.create_run(
                name,
                kind="strategy",
                parent=sweep.run_id,
                params={**shared, **params},
                tags={**tags, "ensgan.strategy": name, "ensgan.rule": sweep.selected.rule},
            )
            book.save()
        run_ids[name] = book.runs[key]
        if not book.is_done(key):
            # The validation score, and the part of the gap that is closed.
            gaps = {f"{k}_gap_closed": v for k, v in value["gap_closed"].items() if v is not None}
            scores = {"val_score": value["val_score"]["mean"], **views.strategy_metrics(value)}
            store.log_metrics(book.runs[key], {**scores, **gaps})
            store.finish(book.runs[key])
            book.mark(key)
    table = content_key(store.uri, sweep.run_id, evaluation.path.name)
    if not book.is_done(table):
        store.log_file(sweep.run_id, evaluation.path, "downstream")
        book.mark(table)
    return run_ids


def _shared(evaluation: Evaluation) -> tuple[dict[str, Any], dict[str, str]]:
    """Parameters and tags of every strategy's run: settings, data, seed, the code that ran now."""
    before = evaluation.sweep.folder.read()
    manifest = before.model_copy(update={"versions": environment()})
    settings = {k: v for k, v in evaluation.settings().items() if k != "strategies"}
    params = {**leaves(settings), **views.common(manifest)}
    if evaluation.options.seed is not None:
        params["seed"] = evaluation.options.seed
    return params, views.common_tags(manifest)
