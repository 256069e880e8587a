"""Packs: the GANs of trials that share a GPU are trained in one process, a CUDA stream each.

There is still one Tune trial per GAN, with its share of a GPU, so that budgets, steering, losses
and the order need not know about packs. A trial that has a share asks which process trains its GAN,
lets it train there, and passes on its reports.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import ray
import torch
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ensgan.cluster.trainable import VISIBLE, confine, gpu_device, reports
from ensgan.cluster.trial_queue import TrialQueue, TrialRequest
from ensgan.config import ClusterSpec
from ensgan.errors import DataError, last_line
from ensgan.files import MISFITS, read_json, write_json
from ensgan.sweep.events import OnEvent, warning
from ensgan.sweep.member_job import MemberJob
from ensgan.train.pace import paced, worthwhile
from ensgan.train.pack import Pack
from ensgan.types import Samples

MOST = 32
"""Most GANs in one process; a card shared by more gets another process."""
CLOSE_SECONDS = 60.0
MEASURE_SECONDS = 300.0


class PackProcess:
    """An actor on a card; every trial calls it in a thread of its own.

    Args:
        card: the trials' ``CUDA_VISIBLE_DEVICES``.
    """

    def __init__(self, card: str) -> None:
        os.environ[VISIBLE] = card  # before CUDA starts: the actor itself reserves no GPU
        self._pack: Pack[Mapping[str, Any]] = Pack()
        self._shares: dict[str, float] = {}

    def begin(self, job: MemberJob, gpus: float) -> None:
        """Take the GAN of a trial in."""
        self._shares[job.name] = gpus
        self._settle()
        part = lambda: gpus / sum(list(self._shares.values()))  # noqa: E731
        self._pack.begin(job.name, lambda turn, look: reports(job, gpus, turn, look, part=part))

    def next(self, gan: str) -> Mapping[str, Any] | None:
        """Train to the GAN's next report; None after the last."""
        report = self._pack.next(gan)
        if report is None:
            self.end(gan)
        return report

    def end(self, gan: str) -> None:
        """Take a GAN out."""
        self._pack.end(gan)
        if self._shares.pop(gan, None) is not None:
            self._settle()

    def _settle(self) -> None:
        """Release the memory of GANs that left, and limit the process to the others' shares."""
        if torch.cuda.is_available() and self._shares:
            with self._pack.turn():
                # Asking for the device count does not initialise CUDA.
                torch.cuda.init()  # type: ignore[no-untyped-call]
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                confine(sum(list(self._shares.values())))


class Packs:
    """An actor that owns the processes of a sweep's packs; they end with it.

    Args:
        most: most GANs in one process.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._processes: dict[tuple[str, str], list[Any]] = {}
        self._at: dict[str, Any] = {}
        self._alone: set[str] = set()

    def seat(self, gan: str, node: str, card: str) -> Any | None:
        """The process that trains a GAN; None if its own trial must: its pack was lost before."""
        if gan in self._alone:
            return None
        self.leave(gan)
        here = self._processes.setdefault((node, card), [])
        taken = [sum(at is process for at in self._at.values()) for process in here]
        place = next((i for i, count in enumerate(taken) if count < self.most), None)
        if place is None:
            options = {
                "num_cpus": 0,
                "num_gpus": 0,
                "max_concurrency": self.most + 4,
                "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
            }
            here.append(ray.remote(PackProcess).options(**options).remote(card))
            place = len(here) - 1
        self._at[gan] = here[place]
        return here[place]

    def leave(self, gan: str, alone: bool = False) -> None:
        """The trial of a GAN is over.

        Args:
            alone: its process was lost. From now on the GAN trains in its trial's own process, so
                that a GAN that kills its process takes others with it only once.
        """
        if alone:
            self._alone.add(gan)
        process = self._at.pop(gan, None)
        if process is not None:
            try:
                ray.get(process.end.remote(gan))
            except ray.exceptions.RayActorError:
                for here in self._processes.values():
                    here[:] = [each for each in here if each is not process]

    def close(self) -> None:
        """All trials are over."""
        for gan in list(self._at):
            self.leave(gan)


@contextlib.contextmanager
def open_packs(
    settings: ClusterSpec, trials: Iterable[TrialRequest], queue: TrialQueue
) -> Iterator[ActorHandle | None]:
    """Packs of this driver while the body runs; None if no trial shares a GPU or packing is off.

    At the end, GANs that still train write a checkpoint.
    """
    most = MOST if settings.gans_per_process == "auto" else min(MOST, settings.gans_per_process)
    if most == 1 or not any(0 < trial.gpus < 1 for trial in trials):
        yield None
        return
    packs = ray.remote(Packs).options(num_cpus=0).remote(most)
    queue.leave = lambda gan, alone: packs.leave.remote(gan, alone)
    try:
        yield packs
    finally:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(packs.close.remote(), timeout=CLOSE_SECONDS)
        ray.kill(packs)


def most_on_a_card(
    jobs: Sequence[MemberJob], settings: ClusterSpec, gpu_bytes: int | None, on_event: OnEvent
) -> int | None:
    """Most GANs that share a GPU when shares follow memory; None for as many as fit.

    The number that is set, or as many as pay off: measured once per sweep on a free GPU, with the
    GAN of median effort.
    """
    asked = settings.gans_per_process
    if settings.gpus_per_trial != "auto" or not gpu_bytes or len(jobs) < 2:
        return None
    if asked != "auto":
        return asked
    path = jobs[0].scoring.results / "pack.json"
    with contextlib.suppress(DataError, *MISFITS):
        return int(read_json(path)["gans"])
    job = sorted(jobs, key=lambda job: job.effort)[len(jobs) // 2]
    task = ray.remote(_worth_sharing).options(num_cpus=1, num_gpus=1, name="measure packs")
    try:
        gans = int(ray.get(task.remote(job), timeout=MEASURE_SECONDS))
    except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
        on_event(
            warning(
                "how many GANs are worth a GPU could not be measured "
                f"({last_line(error)}): as many share one as its memory holds; say how many "
                "with cluster.gans_per_process"
            )
        )
        return None
    write_json(path, {"gans": gans, "measured with": job.name})
    return gans


def _worth_sharing(job: MemberJob) -> int:
    job = job.on(gpu_device())
    reals = Samples.load(job.training_set)
    return worthwhile(paced(job.gan(), reals, job.classes, job.settings), MOST)
