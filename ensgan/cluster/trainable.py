"""A Tune trial: one GAN of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
import torch
from ray import tune
from ray.util import metrics

from ensgan.errors import EnsganError, StoreError
from ensgan.sweep.live.trial_report import TrialReport
from ensgan.sweep.member_job import MemberJob, MemberResult, grow
from ensgan.sweep.planning.cost import CONTEXT_BYTES
from ensgan.train import StopTraining

OUT_OF_MEMORY = "out of memory"
"""Key of the report of a trial that wants a larger share."""
STORAGE = "storage"
"""Key of the report of a trial that cannot write its results."""


def gan_trial(config: dict[str, Any], jobs: Mapping[str, MemberJob]) -> None:
    """Grow the members of one GAN, reporting each.

    An error of the code ends the trial with a report, because repeating it would end the same way;
    only the loss of a process or node makes Tune start the trial again. Members are files on the
    sweep's storage, so reports carry no checkpoint.

    Args:
        config: a :class:`~ensgan.cluster.resources.TrialRequest` as Tune hands it over, with its
            ``job`` where that was added after the beginning.
        jobs: by GAN.
    """
    job: MemberJob = config.get("job") or jobs[config["gan"]]
    torch.set_num_threads(job.threads)
    try:
        if config["gpus"]:
            job = job.on("cuda")
            confine(config["gpus"])
        exporter = _Exporter(job, config["gpus"])
        report = TrialReport(
            job,
            place={"ray_node": ray.get_runtime_context().get_node_id()},
            gpus=config["gpus"],
            memory=_gpu_memory if config["gpus"] else lambda: None,
            on_beat=exporter.beat,
        )
        with report.logged(printed=True):
            for result in grow(job, report):
                report.member(result)
                exporter.member(result)
                # Returns when the driver has answered: a trial that shall end here trains no more.
                tune.report(_report(job, result))
    except StopTraining:
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


def confine(gpus: float) -> None:
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


class _Exporter:
    """Tells Ray's own Prometheus exporter how a trial does, by sweep and GAN."""

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
        if seconds > 0:  # a counter takes nothing else
            self.seconds.inc(seconds)
        self._last = beat["time"]

    def member(self, result: MemberResult) -> None:
        """A snapshot is a member."""
        self.intra_d.set(result.intra_d)


def _gpu_memory() -> int | None:
    """The most this process has reserved."""
    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_reserved()) + CONTEXT_BYTES
