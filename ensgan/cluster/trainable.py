"""A Tune trial: one GAN of a sweep."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from ensgan.errors import EnsganError, StoreError
from ensgan.files import write_json
from ensgan.sweep.member_job import MemberJob, MemberResult, grow
from ensgan.sweep.planning.cost import CONTEXT_BYTES
from ensgan.train import TrainProgress

HEARTBEAT_SECONDS = 1.0
OUT_OF_MEMORY = "out of memory"
"""Key of the report of a trial that wants a larger share."""
STORAGE = "storage"
"""Key of the report of a trial that cannot write its results."""


def heartbeat_path(job: MemberJob) -> Path:
    """Where the trial of a job writes how far it is."""
    return job.folder / "heartbeat.json"


def stop_path(job: MemberJob) -> Path:
    """A file that makes the sweep's trials end where they are; they resume from there."""
    return job.scoring.results / "stop"


class _StopNowError(Exception):
    """The driver wants the trials to end: ctrl-C, a full disk, or a spent budget."""


def gan_trial(config: dict[str, Any], jobs: Mapping[str, MemberJob]) -> None:
    """Grow the members of one GAN, reporting each.

    An error of the code ends the trial with a report, because repeating it would end the same way;
    only the loss of a process or node makes Tune start the trial again. Members are files on the
    sweep's storage, so reports carry no checkpoint.

    Args:
        config: a :class:`~ensgan.cluster.resources.TrialRequest` as Tune hands it over.
        jobs: by GAN.
    """
    job = jobs[config["gan"]]
    torch.set_num_threads(job.threads)
    try:
        if config["gpus"]:
            job = job.on("cuda")
            _confine(config["gpus"])
        heartbeat = _Heartbeat(heartbeat_path(job), config["gpus"], stop_path(job))
        for result in grow(job, heartbeat):
            # Returns when the driver has answered: a trial that shall end here trains no step more.
            tune.report(_report(job, result))
    except _StopNowError:
        return
    except StoreError as error:
        tune.report({"gan": job.name, STORAGE: str(error)})
    except Exception as error:  # whatever a row's code raises fails that GAN alone
        key = OUT_OF_MEMORY if is_out_of_memory(error) else "error"
        tune.report({"gan": job.name, key: _sentence(error)})
    finally:
        if config["gpus"] and torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException | None) -> bool:
    """A GPU ran out of memory, directly or as the cause of another error."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        error = error.__cause__
    return False


def _sentence(error: Exception) -> str:
    """What went wrong; for errors nobody foresaw, also where."""
    if isinstance(error, EnsganError):
        return str(error)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = f" ({last.tb_frame.f_code.co_filename}:{last.tb_lineno})" if last else ""
    return f"{type(error).__name__}: {error}{where}"


def _confine(gpus: float) -> None:
    """Keep a trial that shares a GPU within its share.

    Ray's shares only count; without a limit of torch's own a neighbour would run out of memory.
    """
    if gpus >= 1 or not torch.cuda.is_available():
        return
    total = torch.cuda.get_device_properties(0).total_memory
    # The context lies outside of torch's allocator, so the allocator gets the share without it.
    fraction = max(0.01, gpus - CONTEXT_BYTES / total)
    torch.cuda.set_per_process_memory_fraction(min(1.0, fraction))


def _report(job: MemberJob, result: MemberResult) -> dict[str, Any]:
    return {
        "gan": job.name,
        "step": int(result.name.rpartition("@")[2]),
        "intra_d": result.intra_d,
        "member": result.to_json(),
    }


class _Heartbeat:
    """Writes the progress of a trial at most once a second."""

    def __init__(self, path: Path, gpus: float, stop: Path) -> None:
        self.path = path
        self.stop = stop
        self.gpus = gpus
        self.last = 0.0
        self.first: tuple[int, float] | None = None
        ray_node = ray.get_runtime_context().get_node_id()
        self.place = {"pid": os.getpid(), "node": socket.gethostname(), "ray_node": ray_node}

    def __call__(self, progress: TrainProgress) -> None:
        now = time.monotonic()
        if now - self.last < HEARTBEAT_SECONDS:
            return
        self.last = now
        # A file reaches every node that sees the storage; no message of Ray's can interrupt a step.
        if self.stop.exists():
            raise _StopNowError
        if self.first is None:  # the first steps compile and capture: they are not the speed
            self.first = (progress.step, progress.seconds)
        steps, seconds = progress.step - self.first[0], progress.seconds - self.first[1]
        heartbeat = {
            **progress.to_json(),
            **self.place,
            "time": time.time(),
            "steps_per_second": steps / seconds if steps and seconds else None,
            "gpus": self.gpus,
            "gpu_memory_bytes": _gpu_memory() if self.gpus else None,
        }
        with contextlib.suppress(StoreError):  # the display can do without one
            write_json(self.path, heartbeat)


def _gpu_memory() -> int | None:
    """The most this process has reserved."""
    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_reserved()) + CONTEXT_BYTES
