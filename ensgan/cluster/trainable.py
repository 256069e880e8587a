"""A Tune trial: one GAN of a sweep."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import ray
import torch
from ray import tune
from ray.actor import ActorHandle
from ray.util import metrics

from ensgan.errors import EnsganError, StoreError
from ensgan.sweep.live.trial_report import TrialReport
from ensgan.sweep.member_job import MemberJob, MemberResult, grow
from ensgan.sweep.planning.cost import CONTEXT_BYTES
from ensgan.train import StopTraining, Turn
from ensgan.types import step_of

OUT_OF_MEMORY = "out of memory"
"""Key in the report of a trial that needs a larger share of a GPU."""
STORAGE = "storage"
"""Key in the report of a trial that cannot write its results."""


REHEARSAL = "ENSGAN_REHEARSAL"
"""Environment variable: Ray's GPUs are only simulated, and trials compute on the CPU."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpu_device() -> str:
    """The device of a trial that has a share of a GPU."""
    return "cpu" if os.environ.get(REHEARSAL) else "cuda"


def gan_trial(config: dict[str, Any], packs: ActorHandle | None = None) -> None:
    """Grow the members of one GAN, reporting each.

    An error in the code ends the trial with a report, because a repetition would fail in the same
    way; only after the loss of a process or node does Tune start the trial again. Members are files
    on the sweep's storage, so reports carry no checkpoint.

    Args:
        config: a :class:`~ensgan.cluster.trial_queue.TrialRequest` as Tune hands it over, with its
            ``job``.
        packs: a :class:`~ensgan.cluster.packs.Packs` if GANs that share a GPU are trained in one
            process; this trial then only passes on the reports of that process.
    """
    job: MemberJob = config["job"]
    made: Iterable[Mapping[str, Any]] | None = None
    if packs is not None and 0 < config["gpus"] < 1:
        made = _reports_of_pack(packs, job, config["gpus"])
    for report in reports(job, config["gpus"]) if made is None else made:
        # Returns when the driver has answered: a trial that must end here does no further step.
        tune.report(dict(report))


def _reports_of_pack(
    packs: ActorHandle, job: MemberJob, gpus: float
) -> Iterator[Mapping[str, Any]] | None:
    """The reports of a pack's process about the trial's GAN; None if the GAN is in no pack."""
    node, card = ray.get_runtime_context().get_node_id(), os.environ.get(VISIBLE, "")
    try:
        process = ray.get(packs.seat.remote(job.name, node, card))
    except ray.exceptions.RayActorError:  # the owner of the packs was lost, and they with it
        return None
    if process is None:
        return None
    ray.get(process.begin.remote(job, gpus))
    return iter(lambda: ray.get(process.next.remote(job.name)), None)


def reports(
    job: MemberJob,
    gpus: float,
    turn: Turn = nullcontext,
    look: Callable[[], None] = lambda: None,
    *,
    part: Callable[[], float] | None = None,
) -> Generator[Mapping[str, Any], None, None]:
    """The reports of a trial, each computed when it is asked for.

    Args:
        job: of the trial.
        gpus: its share.
        turn, look: as :meth:`ensgan.train.Pack.begin` passes them.
        part: the GAN's part of the GPU memory of its process; None if it has the process alone.
    """
    is_alone = part is None
    memory = lambda: _gpu_memory(1.0 if part is None else part())  # noqa: E731
    torch.set_num_threads(1)
    try:
        if gpus:
            job = job.on(gpu_device())
            if is_alone:
                confine(gpus)
        exporter = _Exporter(job, gpus)
        report = TrialReport(
            job,
            place={"ray_node": ray.get_runtime_context().get_node_id()},
            gpus=gpus,
            memory=memory if gpus else lambda: None,
            look=look,
            on_beat=exporter.beat,
        )
        # In a process of several GANs, printed text cannot be attributed to one of them.
        with report.logged(printed=is_alone):
            for result in grow(job, report, turn):
                report.member(result)
                exporter.member(result)
                yield _report(job, result)
    except StopTraining:
        return
    except StoreError as error:
        yield {"gan": job.name, STORAGE: str(error)}
    except Exception as error:  # an error in a GAN's own code must fail only that GAN
        key = OUT_OF_MEMORY if is_out_of_memory(error) else "error"
        yield {"gan": job.name, key: _sentence(error)}
    finally:
        if gpus and is_alone and torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException | None) -> bool:
    """A GPU ran out of memory, directly or as the cause of another error."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        error = error.__cause__
    return False


def _sentence(error: Exception) -> str:
    """What went wrong, and for unexpected errors also where."""
    if isinstance(error, EnsganError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def confine(gpus: float) -> None:
    """Keep a trial that shares a GPU within its share.

    Ray only counts shares. Without this limit a trial could take the memory of its neighbours.
    """
    if gpus >= 1 or not torch.cuda.is_available():
        return
    total = torch.cuda.get_device_properties(0).total_memory
    # The CUDA context lies outside of torch's allocator, so it is subtracted from the share.
    fraction = max(0.01, gpus - CONTEXT_BYTES / total)
    torch.cuda.set_per_process_memory_fraction(min(1.0, fraction))


def _report(job: MemberJob, result: MemberResult) -> dict[str, Any]:
    return {
        "gan": job.name,
        "step": step_of(result.name),
        "intra_d": result.intra_d,
        "member": result.to_json(),
    }


class _Exporter:
    """Feeds Ray's Prometheus exporter with the progress of a trial, by sweep and GAN."""

    def __init__(self, job: MemberJob, gpus: float) -> None:
        tags = {"sweep": job.scoring.results.name, "gan": job.name}
        keys = tuple(tags)
        self.gpus, self._last = gpus, 0.0
        self.step = metrics.Gauge("ensgan_step", "Steps trained.", keys)
        self.pace = metrics.Gauge("ensgan_steps_per_second", "Pace of the training.", keys)
        self.intra_d = metrics.Gauge("ensgan_intra_d", "Intra-d of the last member.", keys)
        self.seconds = metrics.Counter("ensgan_gpu_seconds_total", "Seconds times GPUs.", keys)
        for metric in (self.step, self.pace, self.intra_d, self.seconds):
            metric.set_default_tags(tags)

    def beat(self, beat: Mapping[str, Any]) -> None:
        """A heartbeat was written."""
        self.step.set(beat["step"])
        self.pace.set(beat["steps_per_second"] or 0.0)
        seconds = self.gpus * (beat["time"] - self._last) if self._last else 0.0
        if seconds > 0:  # a counter accepts nothing else
            self.seconds.inc(seconds)
        self._last = beat["time"]

    def member(self, result: MemberResult) -> None:
        """A snapshot is a member."""
        self.intra_d.set(result.intra_d)


def _gpu_memory(part: float) -> int | None:
    """A part of the peak memory that this process has reserved."""
    if not torch.cuda.is_available():
        return None
    return int(part * (torch.cuda.max_memory_reserved() + CONTEXT_BYTES))
