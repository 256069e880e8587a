"""The order in which Tune gets its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from ensgan.cluster.resources import Order
from ensgan.sweep.member_job import MemberResult


class TrialQueue(Searcher):  # type: ignore[misc]
    """Hands out trials first come, first served, and takes some back to the front.

    Tune asks it for the next trial whenever it has room. Between the last trial handed out and the
    last one finished it answers "not now", because one may still come back (with a larger share of
    a GPU).

    Attributes:
        waiting: orders not yet handed out.
        running: order by trial ID.
        halted: why no trial is handed out any more; None: they are.
    """

    def __init__(self, orders: Sequence[Order], at_once: int | None = None) -> None:
        super().__init__()
        self.waiting = list(orders)
        self.running: dict[str, Order] = {}
        self.at_once = at_once
        self.halted: str | None = None

    def halt(self, reason: str) -> None:
        """Hand out nothing more; the first reason counts."""
        self.halted = self.halted or reason

    def put_first(self, order: Order) -> None:
        """Run this one next."""
        self.waiting.insert(0, order)

    def started(self, trial_id: str) -> None:
        """A trial runs now; until then it waited for a slot."""

    def look(self) -> None:
        """Called every second while trials run."""

    def heard(self, beat: Mapping[str, Any]) -> None:
        """A running trial has said how far it is."""

    def note(self, trial_id: str, member: MemberResult) -> None:
        """A running trial has finished a member."""

    def close(self, gan: str) -> None:
        """A GAN has failed."""

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Tune's question for a metric and a space; a queue needs neither."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration; None: not now; FINISHED: no more."""
        if not self.waiting or self.halted is not None:
            return None if self.running else str(Searcher.FINISHED)
        if self.at_once is not None and len(self.running) >= self.at_once:
            return None
        order = self._pick()
        if order is None:
            return None
        self.running[trial_id] = order
        return order.config

    def _pick(self) -> Order | None:
        """The one of those that wait that runs next, no longer waiting; None: not now."""
        return self.waiting.pop(0)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial has ended, well or badly."""
        self.running.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: a sweep resumes from its own files."""
        with open(checkpoint_path, "w") as file:  # noqa: PTH123
            file.write("{}")

    def restore(self, checkpoint_path: str) -> None:
        """See :meth:`save`."""

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher into a state that ensgan never restores from.
        return {}
