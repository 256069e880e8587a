"""The executor that runs on Ray: a Tune trial a GAN, a task a piece of the rest."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ensgan.cluster import session  # sets Ray's environment before the import below

import ray  # isort: skip
from ray import tune  # isort: skip

from ensgan.cluster import preflight
from ensgan.cluster.ctrl_c import Interrupt
from ensgan.cluster.resources import Order, check_satisfiable, orders, slots
from ensgan.cluster.rounds import RoundQueue, asha
from ensgan.cluster.spare import ReleasingScheduler, SpareSlots
from ensgan.cluster.trainable import gan_trial, stop_path
from ensgan.cluster.trial_queue import TrialQueue
from ensgan.cluster.tune_callback import Watcher, heartbeats
from ensgan.config import ClusterSpec
from ensgan.errors import EnsganError, StoreError, last_line
from ensgan.files import is_full
from ensgan.sweep.events import Event, OnEvent
from ensgan.sweep.executor import NextPiece, Piece, no_piece
from ensgan.sweep.member_job import MemberJob, MemberResult
from ensgan.sweep.planning.budget import Budget
from ensgan.sweep.planning.disk import written_bytes
from ensgan.sweep.planning.pace import Costs

T = TypeVar("T")
R = TypeVar("R")

MOST_PENDING = 200
"""Trials that Tune asks Ray for before they can run: an autoscaler sees them."""
MOST_WARM = 16
"""Workers that are made ready for the stages after training."""

__all__ = ["RayExecutor", "session"]


class RayExecutor:
    """Needs a Ray session (:func:`ensgan.cluster.session.ray_session`).

    Args:
        settings: how trials are scheduled.
        tune_folder: where Tune keeps its own records; nothing is ever read back from there.
        disk_bytes: that the whole sweep takes.
        budget: what training may take; None: all it needs.

    Raises:
        InputError: the cluster can never give what one trial asks for.
    """

    def __init__(
        self,
        settings: ClusterSpec,
        tune_folder: Path,
        disk_bytes: int = 0,
        budget: Budget | None = None,
    ) -> None:
        self.settings = settings
        self.tune_folder = tune_folder
        self.disk_bytes = disk_bytes
        self.budget = budget
        self._warming: list[Any] = []
        self._spare = SpareSlots(_submit(settings), _unfinished)
        nodes = living_nodes()
        gpus = 1.0 if settings.gpus_per_trial == "auto" else settings.gpus_per_trial
        order = Order("any", settings.cpus_per_trial, gpus)
        check_satisfiable([order], nodes, may_grow=settings.autoscaling)
        self.slots = slots(order, nodes)

    def grow(
        self,
        jobs: Sequence[MemberJob],
        *,
        on_member: Callable[[MemberResult], None],
        on_event: OnEvent,
        ahead: NextPiece = no_piece,
    ) -> Mapping[str, str]:
        """See :meth:`ensgan.sweep.executor.Executor.grow`."""
        wanted = orders(jobs, self.settings, self._check(jobs, on_event))
        stop_path(jobs[0]).unlink(missing_ok=True)
        queue = self._queue(wanted, jobs, on_event)
        watcher = Watcher(queue, jobs, on_member, on_event, self.settings.retries, _living_ids)
        interrupt = Interrupt()
        tuner = self._tuner(queue, watcher, jobs, interrupt)
        with (
            heartbeats(queue, jobs, on_event),
            self._using_free_slots(queue, ahead),
            _pending_trials(min(len(jobs), self.slots, MOST_PENDING)),
            # Tune prints boxes even when told to be quiet; stdout belongs to the caller's events.
            contextlib.redirect_stdout(io.StringIO()),
            interrupt.watching(stop_path(jobs[0]).touch),
        ):
            _fit(tuner, queue, self.tune_folder)
        if isinstance(queue, RoundQueue):
            on_event(Event("budget", {"hours": queue.used}))
        # Fresh workers import torch while the driver scores and searches.
        task = ray.remote(_import_classifier).options(num_cpus=1, max_retries=0)
        self._warming = [task.remote() for _ in range(min(self.slots, MOST_WARM))]
        return watcher.failed

    def _queue(
        self, wanted: Sequence[Order], jobs: Sequence[MemberJob], on_event: OnEvent
    ) -> TrialQueue:
        """All of every trial; under a budget, a snapshot of one after the other."""
        if self.budget is None:
            return TrialQueue(wanted, self.settings.max_concurrent)
        return RoundQueue(
            wanted,
            self.settings.max_concurrent,
            self.budget,
            _costs(wanted, jobs),
            self.slots,
            stop_path(jobs[0]),
            on_event,
            {job.name: made for job in jobs if (made := job.made())},
        )

    def _using_free_slots(
        self, queue: TrialQueue, ahead: NextPiece
    ) -> contextlib.AbstractContextManager[None]:
        """Do pieces of later stages where no trial is left to begin.

        Not under a budget, whose next round needs the slots, nor where idle machines go home.
        """
        if self.budget is not None or self.settings.autoscaling:
            return contextlib.nullcontext()
        return self._spare.working(queue, self.slots, ahead)

    def _check(self, jobs: Sequence[MemberJob], on_event: OnEvent) -> int | None:
        """Refuse a cluster that cannot do the jobs; memory of its smallest GPU, if asked for."""
        shares_memory = self.settings.gpus_per_trial == "auto"
        if not preflight.needs_asking(shares_memory):
            return None
        return preflight.check_nodes(
            jobs,
            max(0, self.disk_bytes - written_bytes(jobs[0].results)),
            wants_gpu=bool(self.settings.gpus_per_trial),
            on_event=on_event,
        )

    def _tuner(
        self,
        queue: TrialQueue,
        watcher: Watcher,
        jobs: Sequence[MemberJob],
        interrupt: Interrupt,
    ) -> tune.Tuner:
        trainable = tune.with_resources(
            tune.with_parameters(gan_trial, jobs={job.name: job for job in jobs}),
            lambda config: {"cpu": config["cpus"], "gpu": config["gpus"]},
        )
        uses_asha = self.budget is not None and self.budget.scheduler == "asha"
        return tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=queue,
                num_samples=-1,
                scheduler=self._scheduler(queue, jobs),
                # ASHA stops a trial in the middle: its process must go with it.
                reuse_actors=not uses_asha,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(self.tune_folder),
                verbose=0,
                stop=interrupt,
                callbacks=[watcher],
                failure_config=tune.FailureConfig(max_failures=self.settings.retries),
            ),
        )

    def _scheduler(self, queue: TrialQueue, jobs: Sequence[MemberJob]) -> Any:
        if self.budget is None:
            return ReleasingScheduler(queue)
        return asha(jobs) if self.budget.scheduler == "asha" else None

    def map(
        self, function: Callable[[T], R], items: Sequence[T], *, on_done: Callable[[R], None]
    ) -> list[R]:
        """See :meth:`ensgan.sweep.executor.Executor.map`."""
        task = ray.remote(function).options(num_cpus=1, max_retries=self.settings.retries)
        waiting = {
            self._spare.underway(Piece(function, item)) or task.remote(item): i
            for i, item in enumerate(items)
        }
        results: dict[int, R] = {}
        first: BaseException | None = None
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1)
            for reference in ready:
                index = waiting.pop(reference)
                try:
                    results[index] = ray.get(reference)
                except ray.exceptions.RayError as error:
                    first = first or error
                else:
                    on_done(results[index])
        if first is not None:
            raise _cause(first)
        return [results[i] for i in range(len(items))]


def _costs(wanted: Sequence[Order], jobs: Sequence[MemberJob]) -> Costs:
    by_name = {job.name: job for job in jobs}
    return Costs(
        {order.gan: by_name[order.gan].settings.snapshots for order in wanted},
        {order.gan: by_name[order.gan].effort * order.share for order in wanted},
    )


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
    if queue.waiting or queue.running:
        raise EnsganError("training was ended from outside: the same command goes on from here")


def _submit(settings: ClusterSpec) -> Callable[[Piece], Any]:
    """How a piece becomes a task that takes what a trial would; None where that is not free now.

    A classifier keeps to no share of a GPU, so it takes a whole one.
    """
    gpus = 1 if settings.gpus_per_trial else 0

    def submit(piece: Piece) -> Any:
        free = ray.available_resources()
        if free.get("CPU", 0) < settings.cpus_per_trial or free.get("GPU", 0) < gpus:
            return None
        task = ray.remote(piece.function).options(
            num_cpus=settings.cpus_per_trial, num_gpus=gpus, max_retries=settings.retries
        )
        return task.remote(piece.item)

    return submit


def _unfinished(references: Sequence[Any]) -> list[Any]:
    if not references:
        return []
    return list(ray.wait(list(references), num_returns=len(references), timeout=0)[1])


def _import_classifier() -> None:
    import ensgan.sweep.classifier_job  # noqa: F401


def living_nodes() -> list[dict[str, float]]:
    """Resources of every node that is alive."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _living_ids() -> list[str]:
    return [str(node["NodeID"]) for node in ray.nodes() if node["Alive"]]


@contextlib.contextmanager
def _pending_trials(count: int) -> Iterator[None]:
    """Let Tune prepare this many trials at once; it reads the number from the environment."""
    name = "TUNE_MAX_PENDING_TRIALS_PG"
    before = os.environ.get(name)
    os.environ[name] = str(max(1, count))
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _cause(error: BaseException) -> BaseException:
    """The error a task raised, if it is ours; otherwise one that says what Ray said."""
    cause: Any = getattr(error, "cause", None)
    if isinstance(cause, EnsganError):
        return cause
    return EnsganError(f"a task failed on the cluster: {last_line(error)}")
