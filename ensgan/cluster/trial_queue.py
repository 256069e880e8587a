"""The trials of a sweep: what each reserves, and the order in which Tune gets them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

from ensgan.cluster.budget import Spending
from ensgan.config import ClusterSpec
from ensgan.sweep.events import Event
from ensgan.sweep.live.order import TrainingOrder
from ensgan.sweep.member_job import MemberJob, MemberResult
from ensgan.sweep.planning.cost import gpu_share
from ensgan.types import row_of

RETRY_FACTOR = 2.0
"""A trial that ran out of memory is tried again with this many times its share."""


@dataclass(frozen=True)
class TrialRequest:
    """One trial to run.

    Attributes:
        gan: of which job.
        cpus, gpus: what Ray reserves for it; below 1, GPUs are shared.
    """

    gan: str
    cpus: float
    gpus: float

    @property
    def config(self) -> dict[str, Any]:
        """The trial's configuration as Tune passes it to the trial."""
        return asdict(self)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> TrialRequest:
        """The request of a trial's configuration, which may hold more."""
        return cls(config["gan"], config["cpus"], config["gpus"])

    @property
    def share(self) -> float:
        """What one hour of it counts: its GPUs, or its CPUs if it gets no GPU."""
        return self.gpus or self.cpus

    def enlarged(self) -> TrialRequest | None:
        """With a larger share of a GPU; None when it has a whole one already."""
        # Alone on its card a trial has all the memory: trying again would fail in the same way.
        if self.gpus >= 1:
            return None
        return replace(self, gpus=min(1.0, self.gpus * RETRY_FACTOR))


def trial_requests(
    jobs: Sequence[MemberJob],
    settings: ClusterSpec,
    gpu_bytes: int | None,
    most: int | None = None,
) -> tuple[TrialRequest, ...]:
    """What to run, ordered by priority and then by length, the longest first.

    A long trial that starts last would run alone at the end while other slots idle.

    Args:
        jobs: with their efforts.
        settings: of the cluster.
        gpu_bytes: memory of the smallest GPU; None when there is none or nobody can say.
        most: trials that may share a GPU where their memory decides.
    """
    # Sorting is stable: equal GANs keep the order of the sweep file, in every session.
    rank = ranks(jobs, settings)
    ranked = sorted(jobs, key=lambda job: (-rank[job.name], -job.effort))
    return tuple(
        TrialRequest(
            job.name,
            settings.cpus_per_trial,
            gpu_share(settings, job.memory_bytes, gpu_bytes, most),
        )
        for job in ranked
    )


def plan_event(trials: Sequence[TrialRequest], slots: int, jobs: Iterable[MemberJob]) -> Event:
    """What is going to run, for estimates of the time it takes."""
    efforts = {job.name: job.effort for job in jobs}
    shares = {each.gan: {"share": each.share, "effort": efforts[each.gan]} for each in trials}
    is_on_gpus = any(each.gpus for each in trials)
    return Event("plan", {"slots": slots, "gpus": is_on_gpus, "trials": shares})


def ranks(jobs: Sequence[MemberJob], settings: ClusterSpec) -> dict[str, int]:
    """Priorities by job; a GAN's priority applies to all its variations."""
    return {job.name: settings.priority.get(row_of(job.name), 0) for job in jobs}


class NotKept:
    """A part of Tune's state, which Tune pickles and ensgan never restores from."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TrialQueue(NotKept, Searcher):  # type: ignore[misc]
    """Hands the turns of a :class:`TrainingOrder` to Tune, as trials.

    Tune asks for the next trial whenever it has room. The answer is "not now" while the sweep is
    paused, and while the last trials still run, because one may come back (with a larger share of
    a GPU).

    Tune calls its searcher, callback and stopper one after the other from the thread that runs
    ``Tuner.fit``; nothing else may touch a queue, which therefore needs no lock.

    Args:
        order: what waits and what runs, by trial ID.
        spending: whether the budget has room for a trial or a snapshot.
        stop_file: its presence ends every running trial where it is.
        max_concurrent: most trials at once; None for as many as there are slots.

    Attributes:
        halted: why no trial is handed out any more; None while they are.
        interrupted: the user pressed ctrl-C.
        complete: GANs with all their members.
        leave: called with the GAN of every trial that is over, and whether its process was lost.
    """

    def __init__(
        self,
        order: TrainingOrder[TrialRequest],
        spending: Spending,
        stop_file: Path,
        max_concurrent: int | None = None,
    ) -> None:
        super().__init__()
        self.order = order
        self.spending = spending
        self.stop_file = stop_file
        self.max_concurrent = max_concurrent
        self.leave: Callable[[str, bool], object] = lambda gan, alone: None
        self.halted: str | None = None
        self.interrupted = False
        self.complete: set[str] = set()
        self._spent: set[str] = set()
        if spending.budget.gpu_hours is not None:
            order.raise_budget = self._raise_budget

    @property
    def running(self) -> dict[str, TrialRequest]:
        """Request by trial ID."""
        return self.order.running

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration; None: not now; FINISHED: no more."""
        if not self.running:  # without trials Tune makes no other calls that could look
            self.order.look()
        if self.interrupted or self.halted is not None:
            return None if self.running else str(Searcher.FINISHED)
        if self.max_concurrent is None or len(self.running) < self.max_concurrent:
            # A short one may fit into what is left of a budget where a long one does not.
            request = self.order.next(self.spending.may_begin)
            if request is not None:
                self.order.begin(trial_id, request)
                return {**request.config, "job": self.spending.jobs[request.gan]}
        # While trials run the rest of a budget may grow: one may need less than was set aside.
        return None if self.running or self.order.waits else str(Searcher.FINISHED)

    def run_next(self, request: TrialRequest) -> None:
        """Put a trial before all others."""
        self.order.waiting.insert(0, request)

    def may_continue(self, trial_id: str, member: MemberResult) -> bool:
        """Whether the budget has room for the next snapshot of a trial."""
        fits = self.spending.may_continue(trial_id, member)
        if not fits:
            self._spent.add(trial_id)
        return fits

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial has ended, well or badly."""
        self.spending.trial_ended(trial_id)
        request = self.running.get(trial_id)
        is_spent = trial_id in self._spent or self.spending.exhausted() is not None
        if request is not None:
            self.leave(request.gan, error)
        is_complete = request is not None and request.gan in self.complete
        self.order.end(trial_id, is_complete=is_complete, is_spent=is_spent)

    def halt(self, reason: str) -> None:
        """End every trial at a checkpoint and hand out no more; the first reason is kept."""
        self.halted = self.halted or reason
        self.stop_running()

    def interrupt(self) -> None:
        """The user pressed ctrl-C."""
        self.interrupted = True
        self.stop_running()

    def end_when_exhausted(self) -> None:
        """End the running trials if the budget is used up because a snapshot took too long."""
        self.spending.save(now_and_then=True)
        if self.running and self.spending.exhausted() is not None:
            self.stop_running()

    def stop_running(self) -> None:
        """Make every running trial end at a checkpoint of its next step."""
        try:
            self.stop_file.parent.mkdir(parents=True, exist_ok=True)
            self.stop_file.touch()
        except OSError:  # a full disk: trials that cannot write end by themselves
            return

    def _raise_budget(self, hours: float) -> None:
        """Set other GPU-hours; trials that ended for lack of them may begin again."""
        self.spending.budget = replace(self.spending.budget, gpu_hours=hours)
        if self.halted is None and not self.interrupted:
            self.stop_file.unlink(missing_ok=True)

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Tune's request to set a metric and a search space; a queue needs neither."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: a sweep resumes from its own files."""
        with open(checkpoint_path, "w") as file:  # noqa: PTH123
            file.write("{}")

    def restore(self, checkpoint_path: str) -> None:
        """See :meth:`save`."""


class NamedTrials(SearchGenerator):  # type: ignore[misc]
    """Makes Tune's trials of a queue's turns, and gives each an actor class of its own.

    Ray's lists and dashboard show only the class of an actor.

    Args:
        queue: of the turns.
        trainable: class of all trials.
        sweep: what the trials' names begin with.
    """

    def __init__(self, queue: TrialQueue, trainable: type[tune.Trainable], sweep: str) -> None:
        super().__init__(queue)
        self._trainable, self._sweep = trainable, sweep

    def create_trial_if_possible(self, experiment_spec: dict[str, Any]) -> Trial | None:
        """The next trial, None where there is none now."""
        trial = super().create_trial_if_possible(experiment_spec)
        if trial is not None:
            name = f"{self._sweep}: train {trial.config['gan']}"
            # Lists of actors show the class, those of tasks what the actor is shown as.
            shown = {"__qualname__": name, "__repr__": lambda _: name}
            kind = type(name, (self._trainable,), {"__module__": __name__, **shown})
            tune.register_trainable(name, kind)
            trial.trainable_name = name
        return trial
