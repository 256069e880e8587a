"""Tune's callbacks: reports of running trials, and whether to stop them."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from ensgan.cluster.session import alive_nodes
from ensgan.cluster.trainable import OUT_OF_MEMORY, STORAGE
from ensgan.cluster.trial_queue import NotKept, TrialQueue, TrialRequest
from ensgan.errors import DataError, StoreError, last_line
from ensgan.files import read_json
from ensgan.sweep.events import Event, OnEvent, warning
from ensgan.sweep.live.trial_report import heartbeat_path
from ensgan.sweep.member_job import MemberJob, MemberResult

POLL_SECONDS = 1.0
NODE_SECONDS = 30.0
"""Seconds within which a cluster notices a lost node (five missed health checks)."""


class TuneCallback(NotKept, tune.Callback):  # type: ignore[misc]
    """Turns Tune's reports and the trials' heartbeats into members, failures and events.

    The loss of a node is not held against a trial. The loss of its process counts towards
    ``retries`` unless the trial got further than at its previous loss. When results cannot be
    written, all trials are ended, since the others would fail in the same way.

    Everything here runs in the driver, in the thread of ``Tuner.fit``.

    Args:
        queue: where trials that come back are put.
        on_member: called once for every finished member.
        on_event: called for losses, failures, warnings and the progress of every trial.
        retries: losses of a process, without progress in between, before a GAN is given up.

    Attributes:
        jobs: all of them, by GAN; others may join.
        members: names of those finished, by GAN.
    """

    def __init__(
        self,
        queue: TrialQueue,
        on_member: Callable[[MemberResult], None],
        on_event: OnEvent,
        retries: int = 2,
    ) -> None:
        self.queue = queue
        self.retries = retries
        self.on_member = on_member
        self.on_event = on_event
        self.jobs = queue.spending.jobs
        self.members: defaultdict[str, set[str]] = defaultdict(set)
        self._step_at_loss: dict[str, int] = {}
        self._failed_starts: dict[str, int] = {}
        self._reported: dict[str, float] = {}
        self._next_poll = 0.0

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called when a trial has a slot."""
        self.queue.spending.trial_started(trial.trial_id, trial.config["gan"])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Called for every report of a trial."""
        try:
            self._take(trial, result)
        except StoreError as error:  # the driver cannot write the manifest
            self.queue.halt(str(error))

    def _take(self, trial: Trial, result: Mapping[str, Any]) -> None:
        if "member" in result:
            member = MemberResult.from_json(result["member"])
            members = self.members[result["gan"]]
            # A trial that starts again reports what it finds on disk once more.
            if member.name not in members:
                members.add(member.name)
                self.on_member(member)
            if len(members) == len(self.jobs[result["gan"]].names):
                self.queue.complete.add(result["gan"])
        elif OUT_OF_MEMORY in result:
            self._enlarge(trial, result["gan"], result[OUT_OF_MEMORY])
        elif STORAGE in result:
            self.queue.halt(result[STORAGE])
        elif "error" in result:
            self._fail(result["gan"], result["error"])

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Called about ten times a second; heartbeats are read once a second.

        Reading them in Tune's loop, not in a thread, leaves queue and listeners to one thread.
        """
        now = time.monotonic()
        if now < self._next_poll:
            return
        self._next_poll = now + POLL_SECONDS
        self.queue.order.look()
        self.queue.end_when_exhausted()
        for request in self.queue.running.values():
            heartbeat = _heartbeat(self.jobs[request.gan])
            if heartbeat and heartbeat["time"] != self._reported.get(request.gan):
                self._reported[request.gan] = heartbeat["time"]
                self.queue.spending.progress(
                    request.gan, heartbeat["step"], heartbeat["steps_per_second"]
                )
                self.on_event(Event("progress", heartbeat))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called when a trial was lost and Tune will start it again."""
        gan = trial.config["gan"]
        step = self._step(gan)
        error = _error_of(trial)
        node_lost = _node_is_gone(error) or self._node_left(gan, error)
        if node_lost or step > self._step_at_loss.get(gan, 0):
            # Tune counts every loss, so one more is allowed for each that must not count.
            trial.max_failures += 1
        self._step_at_loss[gan] = max(step, self._step_at_loss.get(gan, 0))
        self.queue.spending.trial_ended(trial.trial_id)
        self.queue.leave(gan, not node_lost)
        self._report_loss(gan, "node" if node_lost else "process", error)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called when Tune gives a trial up: lost too often, or lost while it was starting.

        Tune does not start the second kind again, so it comes back as a new trial.
        """
        gan, error = trial.config["gan"], _error_of(trial)
        starts = self._failed_starts[gan] = self._failed_starts.get(gan, 0) + 1
        was_running = trial.run_metadata.num_failures > trial.max_failures
        if was_running or starts > self.retries:
            self._fail(gan, f"lost too often: {last_line(error)}")
            return
        self.queue.run_next(TrialRequest.of(trial.config))
        self._report_loss(gan, "process", error)

    def _report_loss(self, gan: str, kind: str, error: BaseException | str | None) -> None:
        fields = {"gan": gan, "step": self._step(gan), "kind": kind, "reason": last_line(error)}
        self.on_event(Event("lost", fields))

    def _fail(self, gan: str, reason: str) -> None:
        """A GAN will not be finished, unless somebody asks for another try."""
        self._failed_starts.pop(gan, None)
        self._step_at_loss.pop(gan, None)
        self.queue.order.fail(gan, reason)

    def _enlarge(self, trial: Trial, gan: str, reason: str) -> None:
        larger = TrialRequest.of(trial.config).enlarged()
        if larger is None:
            self._fail(gan, reason)
            return
        self.queue.run_next(larger)
        message = f"{gan} ran out of GPU memory: again with {larger.gpus:g} of a GPU"
        self.on_event(warning(message))

    def _node_left(self, gan: str, error: BaseException | str | None) -> bool:
        """Whether the node of a trial that became unreachable leaves the cluster.

        A trial's connection breaks a moment before the cluster knows that its node is gone.
        """
        node = _heartbeat(self.jobs[gan]).get("ray_node")
        if node is None or "unavailable" not in str(error).lower():
            return False
        deadline = time.monotonic() + NODE_SECONDS
        while time.monotonic() < deadline:
            if all(other["NodeID"] != node for other in alive_nodes()):
                return True
            time.sleep(0.2)
        return False

    def _step(self, gan: str) -> int:
        """The step of the trial's last heartbeat."""
        return int(_heartbeat(self.jobs[gan]).get("step", 0))


def _error_of(trial: Trial) -> BaseException | str | None:
    """What Tune says of a trial's last failure.

    Tune reads it from its storage, to which the error may not have been copied yet: then this
    process's own file has it.
    """
    error: BaseException | str | None = trial.get_error()
    if error is not None:
        return error
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8")
    except (OSError, TypeError, UnicodeDecodeError):
        return None
    return text.rpartition("Failure # ")[2].strip() or None


def _node_is_gone(error: BaseException | str | None) -> bool:
    """The error of a trial whose node died, not only its process."""
    text = str(error).lower()
    signs = ("node died", "node has died", "node is dead", "node was terminated")
    return any(sign in text for sign in signs)


def _heartbeat(job: MemberJob) -> Mapping[str, Any]:
    """The last heartbeat of a job's trial; empty before the first."""
    with contextlib.suppress(DataError):
        return dict(read_json(heartbeat_path(job)))
    return {}


_RAISING = signal.default_int_handler
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SweepStopper(NotKept, tune.Stopper):  # type: ignore[misc]
    """Tells Tune whether a trial, or all of them, must end.

    Python raises ``KeyboardInterrupt`` wherever the main thread happens to be. Inside Ray that may
    be a callback from C++ or a finalizer, which swallow it, and the sweep would go on. So the first
    ctrl-C is only noted, Tune asks at its next step, and :meth:`catching_interrupts` raises when
    Tune has ended. A second ctrl-C is raised at once.
    """

    def __init__(self, queue: TrialQueue) -> None:
        self.queue = queue

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether a trial ends with what it has just reported.

        Tune asks before the trial goes on, so no step of a snapshot that does not fit is trained.
        """
        if "member" not in result:
            return False
        member = MemberResult.from_json(result["member"])
        return not self.queue.may_continue(trial_id, member)

    def stop_all(self) -> bool:
        """Whether all trials end; Tune asks at each of its steps."""
        return self.queue.interrupted

    @contextmanager
    def catching_interrupts(self) -> Iterator[None]:
        """Note ctrl-C while the body runs, and make the running trials end.

        The same holds for SIGTERM and SIGHUP where they act like ctrl-C (:func:`ray_session`).
        Handlers of the caller stay, and outside of the main thread nothing is changed.

        Raises:
            KeyboardInterrupt: after the body, even if that raised, when ctrl-C was noted.
        """
        in_main = threading.current_thread() is threading.main_thread()
        noted = [number for number in _ENDS if signal.getsignal(number) is _RAISING]
        if not in_main or not noted:
            yield
            return

        def note(_number: int, _frame: FrameType | None) -> None:
            give_back()
            self.queue.interrupt()

        def give_back() -> None:
            for number in noted:
                signal.signal(number, _RAISING)

        for number in noted:
            signal.signal(number, note)
        try:
            yield
        except Exception as error:  # after ctrl-C, errors of ending trials do not matter
            if not self.queue.interrupted:
                raise
            raise KeyboardInterrupt from error
        finally:
            give_back()
        if self.queue.interrupted:
            raise KeyboardInterrupt
