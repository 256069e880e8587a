"""The queue of a sweep with a budget: one snapshot a round, the most promising first, as many
GANs in each as the budget carries.

With ASHA the trials run through and Tune's scheduler stops them; the queue keeps to the budget.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any

from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from ensgan.cluster.resources import Order
from ensgan.cluster.trial_queue import TrialQueue
from ensgan.sweep.events import Event, OnEvent
from ensgan.sweep.member_job import MemberJob, MemberResult
from ensgan.sweep.planning.budget import Budget, dominated, promise
from ensgan.sweep.planning.pace import FINALISTS, Costs, places, widths


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


SLACK = 1.05
"""A snapshot is begun when this many times its cost is left."""


class RoundQueue(TrialQueue):
    """Hands out trials until the budget is spent, of one snapshot each unless ASHA stops them.

    Args:
        orders: one of each GAN.
        at_once: trials at most; None: as there are slots.
        budget: what may be spent.
        costs: of the GANs' snapshots.
        slots: how many trials the cluster runs at once.
        stop_file: made when the budget is spent; running trials end there.
        on_event: told of GANs that stop.
        made: snapshots by GAN that an earlier session has left; GANs without one are not named.

    Attributes:
        histories: members by GAN, in the order they were made.
        stopped: GANs that will not be finished, with the reason.
    """

    def __init__(
        self,
        orders: Sequence[Order],
        at_once: int | None,
        budget: Budget,
        costs: Costs,
        slots: int,
        stop_file: Path,
        on_event: OnEvent,
        made: Mapping[str, int] | None = None,
    ) -> None:
        self.in_rounds = budget.scheduler == "front"
        self.made = made or {}
        if self.in_rounds:  # what an earlier session has made comes first and trains nothing
            orders = [replace(order, until=self.made.get(order.gan) or 1) for order in orders]
            orders = sorted(orders, key=lambda order: order.gan not in self.made)
        super().__init__(orders, at_once)
        self.budget, self.on_event = budget, on_event
        self.costs, self.planned = costs, costs.planned
        self.slots = min(slots, at_once or slots)
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
        running = sum(self._since(*each, now) for each in list(self.running.items()))
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

    def heard(self, beat: Mapping[str, Any]) -> None:
        """How fast a running trial is."""
        gan, speed = beat["gan"], beat["steps_per_second"]
        share = next((order.share for order in self._underway() if order.gan == gan), None)
        if speed and share:
            spacing = beat["steps"] / self.planned[gan]
            self.costs.hear(gan, share * spacing / speed / 3600)

    def note(self, trial_id: str, member: MemberResult) -> None:
        """A member is finished: its scores and what it took."""
        order = self.running[trial_id]
        history = self.histories.setdefault(order.gan, [])
        if all(member.name != other.name for other in history):
            history.append(member)
            hours = order.share * sum(end - begin for begin, end in member.work) / 3600
            self.costs.measure(order.gan, hours)
            self.hours += hours
        self.began[trial_id] = time.time()

    def close(self, gan: str) -> None:
        """The GAN has failed: no more of it."""
        self.closed.add(gan)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """See :meth:`TrialQueue.suggest`; once the budget is spent only what is there already."""
        reason = self._spent() or self._too_little()
        if reason is None or self.halted:
            return super().suggest(trial_id)
        for order in [order for order in self.waiting if not self._is_there(order)]:
            self.waiting.remove(order)
            self._stop(order.gan, reason)
        if self.waiting:
            return super().suggest(trial_id)
        if not self.running:
            return str(Searcher.FINISHED)
        self._end_trials()
        return None

    def _pick(self) -> Order | None:
        """The most promising for whom the budget has a place in the next round.

        With no such place left the one that is furthest goes on, once nothing else runs; under a
        deadline at once, where an idle slot saves nothing.
        """
        if not self.in_rounds:
            return super()._pick()
        hours, by_deadline = self._hours_in_all()
        affordable = self.costs.affordable(hours)
        if affordable:
            found = widths(max(self.planned.values()), affordable)
        elif by_deadline:  # and nothing is known of the costs
            return super()._pick()
        else:
            found = (min(FINALISTS, len(self.planned)),)
        paid = self._paid()
        underway = [self._done(order.gan) for order in self._underway()]
        free = places(found, [self._done(gan) for gan in self.planned], underway)
        for order in paid:
            done = self._done(order.gan)
            if self._is_there(order) or (done < len(free) and free[done] > 0):
                self.waiting.remove(order)
                return order
        if not paid or (self.running and not by_deadline):
            return None
        best = max(paid, key=lambda order: (self._done(order.gan), self._hope(order.gan)))
        self.waiting.remove(best)
        return best

    def _paid(self) -> list[Order]:
        """The waiting whose next snapshot would be finished: half of one is worth nothing."""
        costs = self.costs.each()
        if not costs:
            return list(self.waiting)
        now, deadline, hours = time.time(), self.budget.deadline, self.budget.gpu_hours
        promised = sum(
            max(0.0, costs[order.gan] - self._since(trial_id, order, now))
            for trial_id, order in list(self.running.items())
        )
        left = inf if hours is None else hours - self.used - promised
        wall = inf if deadline is None else (deadline - now) / 3600

        def is_paid(order: Order) -> bool:
            need = SLACK * costs[order.gan]
            return self._is_there(order) or (need <= left and need / order.share <= wall)

        return [order for order in self.waiting if is_paid(order)]

    def _since(self, trial_id: str, order: Order, now: float) -> float:
        """Hours that a running trial has taken since its last snapshot."""
        return order.share * (now - self.began.get(trial_id, now)) / 3600

    def _too_little(self) -> str | None:
        """Why nothing more is begun although something is left of the budget, or None."""
        if not self.in_rounds or not self.waiting or self.running or self._paid():
            return None
        return "the budget is spent but for less than a snapshot"

    def _hours_in_all(self) -> tuple[float, bool]:
        """Hours that the budget has for the sweep, and whether it is the deadline that says so."""
        hours = inf if self.budget.gpu_hours is None else self.budget.gpu_hours
        if self.budget.deadline is None:
            return hours, False
        share = fmean(order.share for order in (*self.waiting, *self._underway()))
        left = max(0.0, self.budget.deadline - time.time()) / 3600
        until = self.used + left * self.slots * share
        return min(hours, until), until < hours

    def _is_there(self, order: Order) -> bool:
        """What it would make has been made and paid for by an earlier session."""
        return self._done(order.gan) < self.made.get(order.gan, 0)

    def _done(self, gan: str) -> int:
        return len(self.histories.get(gan, ()))

    def _underway(self) -> list[Order]:
        return list(self.running.values())

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
        done = self._done(order.gan)
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
        fields = {"gan": gan, "members": self._done(gan), "of": self.planned[gan], "reason": reason}
        self.on_event(Event("stopped", fields))
