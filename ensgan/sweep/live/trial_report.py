"""What a trial reports while it trains (heartbeat, losses, log), and whether it must end.

All of this goes through files of the sweep's folder, which every machine sees.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ensgan.errors import StoreError
from ensgan.files import write_json
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.member_job import MemberJob, MemberResult
from ensgan.sweep.planning.measured import History
from ensgan.train import StopTraining, TrainProgress

HEARTBEAT_SECONDS = 1.0
LOG_SECONDS = 30.0


def heartbeat_path(job: MemberJob) -> Path:
    """Where the trial of a job writes how far it is."""
    return job.folder / "heartbeat.json"


def stop_path(job: MemberJob) -> Path:
    """The file that makes all trials of the sweep end at a checkpoint."""
    return job.scoring.results / "stop"


def own_stop_path(job: MemberJob) -> Path:
    """The file that makes only the trial of this job end at a checkpoint."""
    return job.folder / "stop"


class _Warnings(logging.Handler):
    """Copies training's warnings about a GAN to its log."""

    def __init__(self, gan: str, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self.gan, self.say = gan, say

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(f"{self.gan} "):  # a pack trains other GANs in this process
            self.say(message)


class TrialReport:
    """Reports on one trial, at most once a second, and ends it when a stop file asks for it.

    Args:
        job: of the trial.
        place: where it runs, besides process and host.
        gpus: its share of a GPU.
        memory: bytes it has taken of its GPU.
        look: called before each check for stop files.
        on_beat: called with every heartbeat that is written.
    """

    def __init__(
        self,
        job: MemberJob,
        *,
        place: Mapping[str, Any] | None = None,
        gpus: float = 0.0,
        memory: Callable[[], int | None] = lambda: None,
        look: Callable[[], None] = lambda: None,
        on_beat: Callable[[Mapping[str, Any]], None] = lambda beat: None,
    ) -> None:
        self.job, self.gpus, self.memory, self.look, self.on_beat = job, gpus, memory, look, on_beat
        self.place = {"pid": os.getpid(), "node": socket.gethostname(), **(place or {})}
        self.history, self.log = History(job.folder), SweepFolder(job.scoring.results).log(job.name)
        self._last = self._logged = 0.0
        self._first: tuple[int, float] | None = None

    def __call__(self, progress: TrainProgress) -> None:
        """Called after steps.

        Raises:
            StopTraining: a stop file asks the trial to end.
        """
        now = time.monotonic()
        if now - self._last < HEARTBEAT_SECONDS:
            return
        self._last = now
        if self._first is None:
            # The pace leaves out start-up and what an earlier process did.
            self._first = (progress.step, progress.seconds)
            self.history.resume(progress.step)
        steps, seconds = progress.step - self._first[0], progress.seconds - self._first[1]
        pace = {"steps_per_second": steps / seconds} if steps and seconds else {}
        beat = {
            **progress.to_json(),
            **self.place,
            "time": time.time(),
            "steps_per_second": pace.get("steps_per_second"),
            "gpus": self.gpus,
            "gpu_memory_bytes": self.memory(),
        }
        with contextlib.suppress(StoreError):  # a missing heartbeat only delays the display
            write_json(heartbeat_path(self.job), beat)
        self.on_beat(beat)
        self.history.add(progress.step, {**progress.losses, **pace})
        if now - self._logged > LOG_SECONDS:
            self._logged = now
            values = {**progress.losses, **pace}
            shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            self.say(f"step {progress.step:,} of {progress.steps:,}: {shown}")
        self.look()
        if stop_path(self.job).exists() or own_stop_path(self.job).exists():
            raise StopTraining

    @contextlib.contextmanager
    def _printed(self) -> Iterator[None]:
        try:
            log = self.log.open("a", encoding="utf-8", buffering=1)
        except OSError:
            yield
            return
        with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            yield

    def member(self, result: MemberResult) -> None:
        """A snapshot has become a member."""
        self.history.save()
        health = f"; health: {', '.join(result.health)}" if result.health else ""
        self.say(f"{result.name} is a member, Intra-d {result.intra_d:.4f}{health}")

    def say(self, line: str) -> None:
        """Add a line to the GAN's log."""
        with contextlib.suppress(OSError):  # a full disk: writing the next checkpoint reports it
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    @contextlib.contextmanager
    def logged(self, *, printed: bool = False) -> Iterator[None]:
        """Log how the body began and ended, an error with its traceback.

        Args:
            printed: log also what the body prints, as a user's own GAN may do.
        """
        self.say(f"begins on {self.place['node']}, process {self.place['pid']}")
        last = "finished"
        warnings, logger = _Warnings(self.job.name, self.say), logging.getLogger("ensgan.train")
        logger.addHandler(warnings)
        try:
            with self._printed() if printed else contextlib.nullcontext():
                yield
        except (StopTraining, GeneratorExit):
            last = "ended by request; it goes on from its checkpoint"
            raise
        except Exception:
            last = f"FAILED\n{traceback.format_exc()}"
            raise
        finally:
            logger.removeHandler(warnings)
            self.history.save()
            self.say(last)
