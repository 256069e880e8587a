"""The executor that runs on Ray: one Tune trial per GAN, one task per piece of the rest."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.tune.schedulers import ASHAScheduler
from ray.tune.trainable import wrap_function

from ensgan.cluster import preflight
from ensgan.cluster.budget import Budget, Spending
from ensgan.cluster.packs import most_on_a_card, open_packs
from ensgan.cluster.session import environment, node_resources
from ensgan.cluster.tasks import Tasks, check_fits, reserved, task_slots
from ensgan.cluster.trainable import gan_trial
from ensgan.cluster.trial_queue import (
    NamedTrials,
    TrialQueue,
    TrialRequest,
    plan_event,
    ranks,
    trial_requests,
)
from ensgan.cluster.tune_callback import SweepStopper, TuneCallback
from ensgan.config import ClusterSpec
from ensgan.errors import EnsganError, StoreError, SweepStoppedError
from ensgan.files import is_full
from ensgan.sweep.events import Event, OnEvent, ignore
from ensgan.sweep.executor import ONE_CPU, Needs
from ensgan.sweep.live.order import STOPPED, TrainingOrder
from ensgan.sweep.live.requests import Requests
from ensgan.sweep.live.trial_report import own_stop_path, stop_path
from ensgan.sweep.member_job import MemberJob, MemberResult

if TYPE_CHECKING:
    from ensgan.metrics import Mapper

T = TypeVar("T")
R = TypeVar("R")

MOST_PENDING = 200
"""Most trials that Tune requests before they can run, so that an autoscaler sees the demand."""
MOST_WARM = 16
"""Most workers that are prepared for the stages after training, or requested by autoscaling."""


class RayExecutor:
    """Needs a Ray session (:func:`ensgan.cluster.session.ray_session`).

    Args:
        settings: how trials are scheduled.
        tune_folder: in the sweep's folder, for Tune's own records, which are never read back.
        budget: what training may take; None for no limit.
        named: give every trial its own actor, which Ray lists by sweep and GAN. Otherwise trials
            reuse processes, which saves each the seconds of a start.

    Raises:
        InputError: no node of the cluster has what one trial asks for.
    """

    tell: OnEvent = staticmethod(ignore)

    def __init__(
        self,
        settings: ClusterSpec,
        tune_folder: Path,
        budget: Budget | None = None,
        *,
        named: bool = False,
    ) -> None:
        self.settings = settings
        self.tune_folder = tune_folder
        self.budget, self.named, self.sweep = budget, named, tune_folder.parent.name
        self._warming: list[Any] = []
        nodes = node_resources()
        gpus = 1.0 if settings.gpus_per_trial == "auto" else settings.gpus_per_trial
        request = Needs(settings.cpus_per_trial, gpus)
        if not settings.autoscaling:  # an autoscaler may add larger nodes
            check_fits("a trial", request, nodes, "change cluster.{}s_per_trial")
        self.slots = max(1, task_slots(request, nodes))  # nodes may join later

    def grow(
        self,
        jobs: Sequence[MemberJob],
        *,
        on_member: Callable[[MemberResult], None],
        on_event: OnEvent,
        requests: Requests | None = None,
    ) -> Mapping[str, str]:
        """See :meth:`ensgan.sweep.executor.Executor.grow`."""
        caller_stdout = sys.stdout

        def tell(event: Event) -> None:
            with contextlib.redirect_stdout(caller_stdout):
                on_event(event)

        gpu_bytes = preflight.check_nodes(jobs, self.settings, on_event)
        shared = most_on_a_card(jobs, self.settings, gpu_bytes, tell)
        trials = list(trial_requests(jobs, self.settings, gpu_bytes, shared))
        at_once = min(self.slots, self.settings.max_concurrent or self.slots)
        on_event(plan_event(trials, at_once, jobs))
        spending = Spending(self.budget, jobs, {each.gan: each.share for each in trials})
        stop_path(jobs[0]).unlink(missing_ok=True)  # left by a session that it ended
        files = {job.name: own_stop_path(job) for job in jobs}
        order = TrainingOrder(trials, files, ranks(jobs, self.settings), requests, tell)
        queue = TrialQueue(order, spending, stop_path(jobs[0]), self.settings.max_concurrent)
        callback = TuneCallback(queue, on_member, tell, self.settings.retries)

        def enlist(new: Sequence[MemberJob]) -> Mapping[TrialRequest, Path]:
            turns = trial_requests(new, self.settings, gpu_bytes, shared)
            spending.add(new, {each.gan: each.share for each in turns})
            order.priority |= ranks(new, self.settings)
            trials.extend(turns)
            tell(plan_event(trials, at_once, spending.jobs.values()))
            return {turn: own_stop_path(spending.jobs[turn.gan]) for turn in turns}

        order.enlist = enlist
        stopper = SweepStopper(queue)
        pending = {"TUNE_MAX_PENDING_TRIALS_PG": str(min(len(jobs), self.slots, MOST_PENDING))}
        with (
            environment(pending),
            # Tune prints boxes even with verbose=0; stdout belongs to the caller's events.
            contextlib.redirect_stdout(io.StringIO()),
            stopper.catching_interrupts(),
            open_packs(self.settings, trials, queue) as packs,
        ):
            _fit(self._tuner(callback, stopper, packs), queue, self.tune_folder)
        self._report_unfinished(callback, on_event)
        if order.ended is not None:
            raise SweepStoppedError(order.ended)
        self._warm_up()
        return order.failed

    def _warm_up(self) -> None:
        """Let fresh workers import torch while the driver scores and searches.

        Not where there are GPUs: classifiers run there, in processes of their own.
        """
        if not any(node.get("GPU") for node in node_resources()):
            options = {"num_cpus": 1, "max_retries": 0, "name": f"{self.sweep}: warm up"}
            task = ray.remote(_import_classifier).options(**options)
            self._warming = [task.remote() for _ in range(min(self.slots, MOST_WARM))]

    def _tuner(
        self, callback: TuneCallback, stopper: SweepStopper, packs: ActorHandle | None
    ) -> tune.Tuner:
        trainable = tune.with_resources(
            tune.with_parameters(gan_trial, packs=packs),
            lambda config: {"cpu": config["cpus"], "gpu": config["gpus"]},
        )
        asha = self.settings.scheduler == "asha"
        search: TrialQueue | NamedTrials = callback.queue
        if self.named:
            search = NamedTrials(callback.queue, wrap_function(trainable), self.sweep)
        return tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=search,
                num_samples=-1,
                scheduler=_asha(callback.jobs.values()) if asha else None,
                # A trial stopped between snapshots still waits in its process for an answer: such
                # a process cannot be reused.
                reuse_actors=not (self.named or asha or self.budget is not None),
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(self.tune_folder),
                verbose=0,
                stop=stopper,
                callbacks=[callback],
                failure_config=tune.FailureConfig(max_failures=self.settings.retries),
            ),
        )

    def _report_unfinished(self, callback: TuneCallback, on_event: OnEvent) -> None:
        """Report GANs that the budget or ASHA left with fewer snapshots than planned."""
        spending = callback.queue.spending
        reason = "ASHA: its Intra-d is not among the best at this step"
        if self.budget is not None:
            reason = spending.reason()
            on_event(Event("budget", {"hours": spending.hours}))
        order = callback.queue.order
        for job in callback.jobs.values():
            made, planned = len(callback.members[job.name]), len(job.names)
            if made < planned and job.name not in order.failed:
                why = order.ended or reason
                why = "by `ensgan stop`" if order.held.get(job.name) == STOPPED else why
                fields = {"gan": job.name, "members": made, "of": planned, "reason": why}
                on_event(Event("stopped", fields))

    def map(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        *,
        on_done: Callable[[R], None],
        needs: Needs = ONE_CPU,
    ) -> list[R]:
        """See :meth:`ensgan.sweep.executor.Executor.map`."""
        results: dict[int, R] = {}
        first: EnsganError | None = None
        for number, outcome in self._tasks(needs).outcomes(function, items):
            if isinstance(outcome, EnsganError):
                first = first or outcome  # the others leave results on disk: let them finish
            else:
                results[number] = outcome
                on_done(outcome)
        if first is not None:
            raise first
        return [results[number] for number in range(len(items))]

    def mapper(self, needs: Needs = ONE_CPU) -> Mapper:
        """See :meth:`ensgan.sweep.executor.Executor.mapper`."""
        return self._tasks(needs).map

    def _wait(self, waits: bool) -> None:
        """Report that nothing runs because other work has the GPUs, or that this is over."""
        self.tell(Event("waits", {"for": "GPUs that other work holds" if waits else ""}))

    def at_once(self, needs: Needs) -> int:
        """See :meth:`ensgan.sweep.executor.Executor.at_once`."""
        taken = self._tasks(needs).needs
        on_each = [task_slots(taken, [node]) for node in node_resources()]
        return max([1, *on_each])

    def on_gpus(self, needs: Needs) -> int:
        """See :meth:`ensgan.sweep.executor.Executor.on_gpus`."""
        tasks = self._tasks(needs)
        return tasks.slots if tasks.needs.gpus else 0

    def _tasks(self, needs: Needs) -> Tasks:
        """What runs tasks with these needs, as far as this cluster can meet them."""
        nodes, settings = node_resources(), self.settings
        needs = needs.shared(settings)
        # An autoscaler's nodes may have left after training, and their GPUs come again with them.
        if not (settings.autoscaling and settings.gpus_per_trial):
            needs = reserved(needs, nodes)
        if settings.autoscaling:
            slots = max(task_slots(needs, nodes), MOST_WARM)
        else:
            check_fits("a task", needs, nodes, "change cluster.{}s_per_trial")
            slots = task_slots(needs, nodes)
        return Tasks(needs, slots, self.sweep, self._wait)


def _fit(tuner: tune.Tuner, queue: TrialQueue, folder: Path) -> None:
    """Let Tune run the trials.

    Raises:
        StoreError: results cannot be written, as a trial, the driver or Tune itself found.
        EnsganError: Tune ended before its trials, as it does at SIGUSR1.
    """
    try:
        tuner.fit()
    except Exception as error:  # Tune wraps a full disk in many kinds; any other goes on up
        if queue.halted is None and not is_full(folder):
            raise
        queue.halt(f"the disk of {folder} is full: make room, then run the same command again")
        raise StoreError(str(queue.halted)) from error
    if queue.halted is not None:
        raise StoreError(queue.halted)
    is_left = queue.order.waits or queue.order.next(queue.spending.may_begin) is not None
    if queue.running or is_left:
        raise EnsganError("training was ended from outside: the same command goes on from here")


def _asha(jobs: Collection[MemberJob]) -> ASHAScheduler:
    """Tune's ASHA on the Intra-d of single members, its first rung at the first snapshot.

    Half of the GANs go on from each rung to the next. ``max_t`` lies beyond the last step, so that
    trials that get there end by themselves.
    """
    return ASHAScheduler(
        time_attr="step",
        metric="intra_d",
        mode="max",
        max_t=max(job.settings.steps for job in jobs) + 1,
        grace_period=max(job.settings.spacing for job in jobs),
        reduction_factor=2,
    )


def _trial_name(trial: Any) -> str:
    """Name of a trial in Ray's dashboard and Tune's folders: the GAN, made unique."""
    return f"{trial.config['gan']}_{trial.trial_id}"


def _import_classifier() -> None:
    import ensgan.sweep.classifier_job  # noqa: F401
