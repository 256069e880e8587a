"""The order in which Tune gets its trials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from ensgan.cluster.budget import Spending
from ensgan.cluster.resources import TrialRequest


class TrialQueue(Searcher):  # type: ignore[misc]
    """Owns what waits and what runs; hands trials out in order, and takes some back to the front.

    Tune asks it for the next trial whenever it has room. Between the last trial handed out and the
    last one finished it answers "not now", because one may still come back (with a larger share of
    a GPU).

    Tune calls its searcher, callback and stopper one after the other from the thread that runs
    ``Tuner.fit``; nothing else may touch a queue, which therefore needs no lock.

    Args:
        requests: what to run, in this order.
        spending: whether the budget has room for a trial or a snapshot.
        stop_file: its presence ends every running trial where it is.
        max_concurrent: trials at most; None: as there are slots.

    Attributes:
        waiting: requests not yet handed out.
        running: request by trial ID.
        halted: why no trial is handed out any more; None: they are.
    """

    def __init__(
        self,
        requests: Sequence[TrialRequest],
        spending: Spending,
        stop_file: Path,
        max_concurrent: int | None = None,
    ) -> None:
        super().__init__()
        self.waiting = list(requests)
        self.running: dict[str, TrialRequest] = {}
        self.spending = spending
        self.stop_file = stop_file
        self.max_concurrent = max_concurrent
        self.halted: str | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration; None: not now; FINISHED: no more."""
        if self.waiting and self.halted is None:
            if self.max_concurrent is not None and len(self.running) >= self.max_concurrent:
                return None
            for request in self.waiting:
                # A short one may fit into what is left of a budget where a long one does not.
                if self.spending.may_begin(request.gan):
                    self.waiting.remove(request)
                    self.running[trial_id] = request
                    return request.config
        # What is left may grow again while trials run: one may need less than was set aside.
        return None if self.running else str(Searcher.FINISHED)

    def run_next(self, request: TrialRequest) -> None:
        """Put a trial before all others."""
        self.waiting.insert(0, request)

    def on_trial_start(self, trial_id: str) -> None:
        """A trial has its slot; until then it waited for one."""
        self.spending.trial_started(trial_id, self.running[trial_id].gan)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial has ended, well or badly."""
        self.spending.trial_ended(trial_id)
        self.running.pop(trial_id, None)

    def halt(self, reason: str) -> None:
        """End every trial where it is and hand out nothing more; the first reason counts."""
        self.halted = self.halted or reason
        self.stop_running()

    def end_when_exhausted(self) -> None:
        """End the running trials when the budget is spent: a snapshot took longer than expected."""
        self.spending.save(now_and_then=True)
        if self.running and self.spending.exhausted() is not None:
            self.stop_running()

    def stop_running(self) -> None:
        """Make every running trial end at its next step; it resumes from there."""
        try:
            self.stop_file.parent.mkdir(parents=True, exist_ok=True)
            self.stop_file.touch()
        except OSError:  # a full disk: trials that cannot write end by themselves
            return

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Tune's question for a metric and a space; a queue needs neither."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: a sweep resumes from its own files."""
        with open(checkpoint_path, "w") as file:  # noqa: PTH123
            file.write("{}")

    def restore(self, checkpoint_path: str) -> None:
        """See :meth:`save`."""

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher into a state that ensgan never restores from.
        return {}
