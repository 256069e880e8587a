"""What Tune reports, as members, failures and events."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from ensgan.cluster.resources import Order
from ensgan.cluster.trainable import OUT_OF_MEMORY, STORAGE, heartbeat_path, stop_path
from ensgan.cluster.trial_queue import TrialQueue
from ensgan.errors import DataError, StoreError, last_line
from ensgan.files import read_json
from ensgan.sweep.events import Event, OnEvent
from ensgan.sweep.member_job import MemberJob, MemberResult

POLL_SECONDS = 1.0
NODE_SECONDS = 30.0
"""So long the cluster may take to notice that a node is gone: five health checks missed."""


class Watcher(tune.Callback):  # type: ignore[misc]
    """Turns Tune's reports into members, failures and events; runs in the driver.

    The loss of a node costs a trial nothing; the loss of its process counts against ``retries``
    unless the trial had got further than at the loss before. When results cannot be written, all
    trials are ended: it is not one GAN's fault.
    """

    def __init__(
        self,
        queue: TrialQueue,
        jobs: Sequence[MemberJob],
        on_member: Callable[[MemberResult], None],
        on_event: OnEvent,
        retries: int = 2,
        living: Callable[[], Collection[str]] | None = None,
    ) -> None:
        self.queue = queue
        self.living = living
        self.retries = retries
        self.jobs = {job.name: job for job in jobs}
        self.on_member = on_member
        self.on_event = on_event
        self.failed: dict[str, str] = {}
        self.lost_at: dict[str, int] = {}
        self.unstarted: dict[str, int] = {}
        self.seen: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks into a state that ensgan never restores from.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called when a trial has a slot."""
        self.queue.started(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Called for every report of a trial."""
        try:
            self._take(trial, result)
        except StoreError as error:  # the driver cannot write the manifest
            self._halt(str(error))

    def _take(self, trial: Trial, result: dict[str, Any]) -> None:
        if "member" in result:
            member = MemberResult.from_json(result["member"])
            self.queue.note(trial.trial_id, member)
            # A trial that starts again reports what it finds on disk once more.
            if member.name not in self.seen:
                self.seen.add(member.name)
                self.on_member(member)
        elif OUT_OF_MEMORY in result:
            self._enlarge(trial, result["gan"], result[OUT_OF_MEMORY])
        elif STORAGE in result:
            self._halt(result[STORAGE])
        elif "error" in result:
            self.fail(result["gan"], result["error"])

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called when a trial was lost and Tune will start it again."""
        gan = trial.config["gan"]
        reached = self._step(gan)
        error = _error_of(trial)
        node_lost = _node_is_gone(error) or self._node_left(gan, error)
        if node_lost or reached > self.lost_at.get(gan, 0):
            trial.max_failures += 1
        self.lost_at[gan] = max(reached, self.lost_at.get(gan, 0))
        fields = {"gan": gan, "step": reached, "kind": "node" if node_lost else "process"}
        self.on_event(Event("lost", {**fields, "reason": last_line(error)}))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called when Tune gives a trial up: lost too often, or lost while it was starting.

        Tune does not start the second kind again, so it comes back as a new trial.
        """
        gan, error = trial.config["gan"], _error_of(trial)
        starts = self.unstarted[gan] = self.unstarted.get(gan, 0) + 1
        was_running = trial.run_metadata.num_failures > trial.max_failures
        if was_running or starts > self.retries:
            self.fail(gan, f"lost too often: {last_line(error)}")
            return
        self.queue.put_first(Order(**trial.config))
        fields = {"gan": gan, "step": self._step(gan), "kind": "process"}
        self.on_event(Event("lost", {**fields, "reason": last_line(error)}))

    def fail(self, gan: str, reason: str) -> None:
        """A GAN will not be finished."""
        self.failed[gan] = reason
        self.queue.close(gan)
        self.on_event(Event("failed", {"gan": gan, "error": reason}))

    def _halt(self, reason: str) -> None:
        """End every trial where it is."""
        self.queue.halt(reason)
        with contextlib.suppress(OSError):  # without it they end when they cannot write either
            stop_path(next(iter(self.jobs.values()))).touch()

    def _enlarge(self, trial: Trial, gan: str, reason: str) -> None:
        larger = Order(**trial.config).enlarged()
        if larger is None:
            self.fail(gan, reason)
            return
        self.queue.put_first(larger)
        message = f"{gan} ran out of GPU memory: again with {larger.gpus:g} of a GPU"
        self.on_event(Event("warning", {"message": message}))

    def _node_left(self, gan: str, error: BaseException | str | None) -> bool:
        """Whether the node of a trial that became unreachable leaves the cluster.

        A trial's connection breaks a moment before the cluster knows that its node is gone.
        """
        if self.living is None or "unavailable" not in str(error).lower():
            return False
        with contextlib.suppress(DataError, KeyError):
            node = read_json(heartbeat_path(self.jobs[gan]))["ray_node"]
            deadline = time.monotonic() + NODE_SECONDS
            while time.monotonic() < deadline:
                if node not in self.living():
                    return True
                time.sleep(0.2)
        return False

    def _step(self, gan: str) -> int:
        """How far the trial was when it was last heard of."""
        with contextlib.suppress(DataError, KeyError):
            return int(read_json(heartbeat_path(self.jobs[gan]))["step"])
        return 0


def _error_of(trial: Trial) -> BaseException | str | None:
    """What Tune says of a trial's last failure.

    Tune reads it from the sweep's storage, which it reaches later than this process's own folder.
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


@contextlib.contextmanager
def heartbeats(queue: TrialQueue, jobs: Sequence[MemberJob], on_event: OnEvent) -> Iterator[None]:
    """Pass on the running trials' heartbeats while the body runs."""
    stop = threading.Event()
    by_name = {job.name: job for job in jobs}

    def poll() -> None:
        seen: dict[Path, float] = {}
        while not stop.wait(POLL_SECONDS):
            with contextlib.suppress(OSError):  # a full disk: the trials find out themselves
                queue.look()
            for order in list(queue.running.values()):
                path = heartbeat_path(by_name[order.gan])
                try:
                    beat = read_json(path) if path.exists() else None
                except DataError:
                    continue
                if beat is not None and beat["time"] != seen.get(path):
                    seen[path] = beat["time"]
                    queue.heard(beat)
                    on_event(Event("progress", beat))

    thread = threading.Thread(target=poll, name="heartbeats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
