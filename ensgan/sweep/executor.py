"""Where work runs: the stages ask an executor and do not know whether it is Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from ensgan.errors import EnsganError, InputError, StoreError, SweepStoppedError
from ensgan.sweep.events import Event, OnEvent, ignore
from ensgan.sweep.live.order import TrainingOrder
from ensgan.sweep.live.requests import POLL_SECONDS, Requests
from ensgan.sweep.live.trial_report import TrialReport, own_stop_path, stop_path
from ensgan.sweep.member_job import MemberJob, MemberResult, grow
from ensgan.train import StopTraining, TrainProgress

if TYPE_CHECKING:
    from ensgan.config import ClusterSpec
    from ensgan.metrics import Mapper

T = TypeVar("T")
R = TypeVar("R")


SHARE = 0.25
"""Share of a GPU for a task of unknown size: four classifiers keep a card busier than one."""


@dataclass(frozen=True)
class Needs:
    """What one task reserves on a shared machine; :class:`LocalExecutor` reserves nothing.

    Attributes:
        cpus: cores.
        gpus: part of a GPU, or whole ones, where the cluster has any, and none where it has none;
            None: ``cluster.gpus_per_trial`` of the sweep file where that is a part of one, else
            :data:`SHARE`.
        memory: bytes of main memory; 0: not counted.

    Raises:
        InputError: an amount that no machine can give.
    """

    cpus: float = 1.0
    gpus: float | None = 0.0
    memory: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.cpus < float("inf"):
            raise InputError(f"cpus per task is {self.cpus:g}: it must be above 0")
        gpus = self.gpus or 0.0
        if not 0 <= gpus < float("inf") or (gpus > 1 and gpus != int(gpus)):
            raise InputError(f"gpus per task is {gpus:g}: use a part of one (0.25) or whole ones")

    @classmethod
    def on(cls, device: str) -> Needs:
        """For work on a device: ``cpu``, or a share of a GPU (``auto``: where there is one)."""
        return cls(gpus=0.0 if device == "cpu" else None)

    def shared(self, cluster: ClusterSpec) -> Needs:
        """The same, with an unknown share of a GPU set from the sweep's ``cluster`` section."""
        if self.gpus is not None:
            return self
        asked = cluster.gpus_per_trial
        if isinstance(asked, str) or not 0 < asked <= 1:
            asked = SHARE
        return replace(self, gpus=asked)


ONE_CPU = Needs()
"""For work that no GPU speeds up."""


class Executor(Protocol):
    """Runs jobs somewhere.

    Attributes:
        tell: called with events that happen outside of :meth:`grow`: ``waits``, a task that waits.
    """

    tell: OnEvent

    def grow(
        self,
        jobs: Sequence[MemberJob],
        *,
        on_member: Callable[[MemberResult], None],
        on_event: OnEvent,
        requests: Requests | None = None,
    ) -> Mapping[str, str]:
        """Run every job to its end; returns the GANs that failed, with the reason.

        Args:
            jobs: what to train.
            on_member: called for every finished member.
            on_event: called for everything else.
            requests: steering requests that may arrive meanwhile.

        Raises:
            StoreError: results cannot be written (a full disk); what was written stays.
            SweepStoppedError: a request ended the sweep.
        """
        ...

    def map(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        *,
        on_done: Callable[[R], None],
        needs: Needs = ONE_CPU,
    ) -> list[R]:
        """Apply a pure function to every item; results in the order of the items.

        The first error is raised after the others have ended.

        Args:
            function: runs where the executor has room for it.
            items: one argument each.
            on_done: called for every result.
            needs: what one call reserves.

        Raises:
            InputError: no machine has that much.
        """
        ...

    def mapper(self, needs: Needs = ONE_CPU) -> Mapper:
        """A ``map`` whose results come as they finish, in any order; errors as :meth:`map`."""
        ...

    def at_once(self, needs: Needs) -> int:
        """How many such tasks share the memory of one machine."""
        ...

    def on_gpus(self, needs: Needs) -> int:
        """How many such tasks run on GPUs at once; 0 where they run on CPUs."""
        ...


def grow_here(
    job: MemberJob, on_event: OnEvent, look: Callable[[], None] = lambda: None
) -> Iterator[MemberResult]:
    """Grow the members of one GAN in this process and report its progress.

    Raises:
        StopTraining: a request stopped it; it resumes from its checkpoint.
        EnsganError: it cannot be trained further.
    """
    report = TrialReport(job, look=look)

    def on_progress(progress: TrainProgress) -> None:
        on_event(Event("progress", progress.to_json()))
        report(progress)

    with report.logged():
        for result in grow(job, on_progress):
            report.member(result)
            yield result


@dataclass(frozen=True)
class _Turn:
    """A job that waits to be trained."""

    gan: str


class LocalExecutor:
    """One job after another in this process: no Ray needed."""

    tell: OnEvent = staticmethod(ignore)

    def grow(
        self,
        jobs: Sequence[MemberJob],
        *,
        on_member: Callable[[MemberResult], None],
        on_event: OnEvent,
        requests: Requests | None = None,
    ) -> Mapping[str, str]:
        """See :meth:`Executor.grow`."""
        by_name: dict[str, MemberJob] = {}

        def enlist(new: Sequence[MemberJob]) -> Mapping[_Turn, Path]:
            by_name.update({job.name: job for job in new})
            planned = {name: {"share": 1.0, "effort": job.effort} for name, job in by_name.items()}
            on_event(Event("plan", {"slots": 1, "gpus": False, "trials": planned}))
            return {_Turn(job.name): own_stop_path(job) for job in new}

        turns = enlist(jobs)
        files = {turn.gan: path for turn, path in turns.items()}
        order = TrainingOrder(list(turns), files, {}, requests, on_event)
        order.enlist = enlist
        stop_path(jobs[0]).unlink(missing_ok=True)
        while (turn := order.next()) is not None or order.waits:
            order.look()
            if turn is None or turn != order.next():  # a request may have changed the order
                time.sleep(POLL_SECONDS / 10)
                continue
            order.begin(turn.gan, turn)
            is_complete = False
            try:
                for result in grow_here(by_name[turn.gan], on_event, order.look):
                    on_member(result)
                is_complete = True
            except StopTraining:
                pass
            except StoreError:
                raise  # the disk is at fault, not the GAN: the others would fail in the same way
            except EnsganError as error:
                order.fail(turn.gan, str(error))
            order.end(turn.gan, is_complete=is_complete)
        if order.ended is not None:
            raise SweepStoppedError(order.ended)
        return order.failed

    def map(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        *,
        on_done: Callable[[R], None],
        needs: Needs = ONE_CPU,
    ) -> list[R]:
        """See :meth:`Executor.map`."""
        results = []
        for item in items:
            results.append(function(item))
            on_done(results[-1])
        return results

    def mapper(self, needs: Needs = ONE_CPU) -> Mapper:
        """See :meth:`Executor.mapper`."""
        return map

    def at_once(self, needs: Needs) -> int:
        """See :meth:`Executor.at_once`."""
        return 1

    def on_gpus(self, needs: Needs) -> int:
        """See :meth:`Executor.on_gpus`."""
        import torch

        return int(needs.gpus is None and torch.cuda.is_available())
