"""The queue of a sweep with a budget: one snapshot a round, the most promising first.

With ASHA the trials run through and Tune's scheduler stops them; the queue keeps to the budget.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from ensgan.cluster.queue import TrialQueue
from ensgan.cluster.shares import Order
from ensgan.pipeline.budget import Budget, dominated, promise
from ensgan.pipeline.events import Event, OnEvent
from ensgan.pipeline.members import MemberJob, MemberResult


def asha(jobs: Sequence[MemberJob]) -> ASHAScheduler:
    """Tune's ASHA on the Intra-d of single members, a rung at the first snapshot."""
    return ASHAScheduler(
        time_attr="step",
        metric="intra_d",
        mode="max",
        max_t=max(job.settings.steps for job in jobs) + 1,
        grace_period=max(job.settings.spacing for job in jobs),
        reduction_factor=2,
    )


class RoundQueue(TrialQueue):
    """Hands out trials until the budget is spent, of one snapshot each unless ASHA stops them.

    Attributes:
        histories: members by GAN, in the order they were made.
        stopped: GANs that will not be finished, with the reason.
    """

    def __init__(
        self,
        orders: Sequence[Order],
        at_once: int | None,
        budget: Budget,
        planned: Mapping[str, int],
        stop_file: Path,
        on_event: OnEvent,
    ) -> None:
        self.in_rounds = budget.scheduler == "front"
        until = 1 if self.in_rounds else None
        super().__init__([replace(order, until=until) for order in orders], at_once)
        self.budget, self.planned, self.on_event = budget, planned, on_event
        self.stop_file = stop_file
        self.histories: dict[str, list[MemberResult]] = {}
        self.stopped: dict[str, str] = {}
        self.closed: set[str] = set()
        self.began: dict[str, float] = {}
        self.hours = 0.0
        self._ended = 0.0

    @property
    def used(self) -> float:
        """Hours of the budget: of members, of trials that ended between two, of those that run."""
        now = time.time()
        running = sum(
            order.share * (now - self.began.get(trial_id, now)) / 3600
            for trial_id, order in list(self.running.items())
        )
        return self.hours + self._ended + running

    def started(self, trial_id: str) -> None:
        """From now on the trial costs something."""
        self.began[trial_id] = time.time()

    def look(self) -> None:
        """End the running trials when the budget is spent: Tune asks only where it has room."""
        if self.running and not self.halted and self._spent() is not None:
            self._end_trials()

    def _spent(self) -> str | None:
        return self.budget.spent(self.used, time.time())

    def _end_trials(self) -> None:
        if not self.stop_file.exists():
            self.stop_file.parent.mkdir(parents=True, exist_ok=True)
            self.stop_file.touch()

    def note(self, trial_id: str, member: MemberResult) -> None:
        """A member is finished: its scores and what it took."""
        order = self.running[trial_id]
        history = self.histories.setdefault(order.gan, [])
        if all(member.name != other.name for other in history):
            history.append(member)
            self.hours += order.share * sum(end - begin for begin, end in member.work) / 3600
        self.began[trial_id] = time.time()

    def close(self, gan: str) -> None:
        """The GAN has failed: no more of it."""
        self.closed.add(gan)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """See :meth:`TrialQueue.suggest`; nothing more once the budget is spent."""
        reason = self._spent()
        if reason is None or self.halted:
            return super().suggest(trial_id)
        for order in self.waiting:
            self._stop(order.gan, reason)
        self.waiting.clear()
        if not self.running:
            return str(Searcher.FINISHED)
        self._end_trials()
        return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The GAN's next round, or its end."""
        order = self.running.pop(trial_id, None)
        if order is not None:
            # What it did since its last snapshot is in its resume checkpoint, and was paid for.
            now = time.time()
            self._ended += order.share * (now - self.began.pop(trial_id, now)) / 3600
        if order is None or error or self.halted or order.gan in self.closed:
            return
        if any(order.gan == other.gan for other in self.waiting):
            return  # it comes back with more memory
        planned = self.planned[order.gan]
        done = len(self.histories.get(order.gan, ()))
        if done >= planned:
            return
        reason = self._spent()
        if reason is None:
            reason = (
                dominated(order.gan, self.histories, planned)
                if self.in_rounds
                else "ASHA: its Intra-d is not among the best at this step"
            )
        if reason is not None:
            self._stop(order.gan, reason)
            return
        self.waiting.append(replace(order, until=done + 1))
        self.waiting.sort(key=lambda other: (other.until or 0, -self._hope(other.gan)))

    def _hope(self, gan: str) -> float:
        history = self.histories.get(gan)
        return promise(history, self.planned[gan]).intra_d if history else float("inf")

    def _stop(self, gan: str, reason: str) -> None:
        if gan in self.stopped:
            return
        self.stopped[gan] = reason
        made = len(self.histories.get(gan, ()))
        fields = {"gan": gan, "members": made, "of": self.planned[gan], "reason": reason}
        self.on_event(Event("stopped", fields))
