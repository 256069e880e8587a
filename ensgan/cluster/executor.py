"""The executor that runs on Ray: a Tune trial a GAN, a task a piece of the rest."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ensgan.cluster import session  # sets Ray's environment before the import below

import ray  # isort: skip
from ray import tune  # isort: skip
from ray.tune.experiment import Trial  # isort: skip

from ensgan.cluster.trainable import gan_trial, heartbeat_path
from ensgan.config import ClusterSpec
from ensgan.errors import DataError, EnsganError, InputError
from ensgan.files import read_json
from ensgan.pipeline.events import Event, OnEvent
from ensgan.pipeline.members import MemberJob, MemberResult

T = TypeVar("T")
R = TypeVar("R")

POLL_SECONDS = 1.0

__all__ = ["RayExecutor", "session"]


class RayExecutor:
    """Needs a Ray session (:func:`ensgan.cluster.session.ray_session`).

    Raises:
        InputError: the cluster can never give what one trial asks for.
    """

    def __init__(self, settings: ClusterSpec, tune_folder: Path) -> None:
        self.settings = settings
        self.tune_folder = tune_folder
        available = ray.cluster_resources()
        asked = {"CPU": settings.cpus_per_trial, "GPU": settings.gpus_per_trial}
        for resource, amount in asked.items():
            if amount > available.get(resource, 0):
                raise InputError(
                    f"a trial asks for {amount:g} {resource}, the cluster has "
                    f"{available.get(resource, 0):g}: change cluster.{resource.lower()}s_per_trial"
                )
        self.slots = max(1, int(available["CPU"] // settings.cpus_per_trial))

    def grow(
        self,
        jobs: Sequence[MemberJob],
        *,
        on_member: Callable[[MemberResult], None],
        on_event: OnEvent,
    ) -> Mapping[str, str]:
        """See :meth:`ensgan.pipeline.executor.Executor.grow`."""
        watcher = _Watcher(on_member, on_event)
        trainable = tune.with_resources(
            tune.with_parameters(gan_trial, jobs={job.name: job for job in jobs}),
            {"cpu": self.settings.cpus_per_trial, "gpu": self.settings.gpus_per_trial},
        )
        tuner = tune.Tuner(
            trainable,
            param_space={"gan": tune.grid_search([job.name for job in jobs])},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=self.settings.max_concurrent, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(self.tune_folder),
                verbose=0,
                callbacks=[watcher],
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
                failure_config=tune.FailureConfig(max_failures=self.settings.retries),
            ),
        )
        # Tune prints boxes even when told to be quiet; stdout belongs to the caller's events.
        with _heartbeats(jobs, on_event), contextlib.redirect_stdout(io.StringIO()):
            grid = tuner.fit()
        for outcome in grid:
            gan = str((outcome.config or {}).get("gan"))
            if outcome.error is not None and gan not in watcher.failed:
                watcher.fail(gan, f"lost: {_last_line(outcome.error)}")
        return watcher.failed

    def map(
        self, function: Callable[[T], R], items: Sequence[T], *, on_done: Callable[[R], None]
    ) -> list[R]:
        """See :meth:`ensgan.pipeline.executor.Executor.map`."""
        task = ray.remote(function).options(num_cpus=1, max_retries=self.settings.retries)
        waiting = {task.remote(item): i for i, item in enumerate(items)}
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


class _Watcher(tune.Callback):  # type: ignore[misc]
    """Turns Tune's reports into members, failures and events."""

    def __init__(self, on_member: Callable[[MemberResult], None], on_event: OnEvent) -> None:
        self.on_member = on_member
        self.on_event = on_event
        self.failed: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks into a state that ensgan never restores from.
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Called in the driver for every report of a trial."""
        if "error" in result:
            self.fail(result["gan"], result["error"])
        elif "member" in result:
            self.on_member(MemberResult.from_json(result["member"]))

    def fail(self, gan: str, reason: str) -> None:
        """A GAN will not be finished."""
        self.failed[gan] = reason
        self.on_event(Event("failed", {"gan": gan, "error": reason}))


@contextlib.contextmanager
def _heartbeats(jobs: Sequence[MemberJob], on_event: OnEvent) -> Iterator[None]:
    """Pass on the trials' heartbeats while the body runs."""
    stop = threading.Event()

    def poll() -> None:
        seen: dict[Path, float] = {}
        while not stop.wait(POLL_SECONDS):
            for job in jobs:
                path = heartbeat_path(job)
                try:
                    beat = read_json(path) if path.exists() else None
                except DataError:
                    continue
                if beat is not None and beat["time"] != seen.get(path):
                    seen[path] = beat["time"]
                    on_event(Event("progress", beat))

    thread = threading.Thread(target=poll, name="heartbeats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _cause(error: BaseException) -> BaseException:
    """The error a task raised, if it is ours; otherwise one that says what Ray said."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, EnsganError):
        return cause
    return EnsganError(f"a task failed on the cluster: {_last_line(error)}")


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
