"""Where work runs: the stages ask an executor and do not know whether it is Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from ensgan.errors import EnsganError, StoreError
from ensgan.sweep.events import Event, OnEvent
from ensgan.sweep.member_job import MemberJob, MemberResult, grow
from ensgan.train import TrainProgress

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Piece:
    """A pure function whose result is a file, and what it is applied to."""

    function: Callable[[Any], Any]
    item: Any


NextPiece: TypeAlias = Callable[[], Piece | None]
"""The next piece of work that is ready, None when there is none (yet)."""


def no_piece() -> None:
    """Nothing is ready."""


class Executor(Protocol):
    """Runs jobs somewhere.

    Attributes:
        slots: how many jobs of one CPU run at once.
    """

    slots: int

    def grow(
        self,
        jobs: Sequence[MemberJob],
        *,
        on_member: Callable[[MemberResult], None],
        on_event: OnEvent,
        ahead: NextPiece = no_piece,
    ) -> Mapping[str, str]:
        """Run every job to its end; GANs that failed, with the reason.

        ``ahead`` is asked, perhaps in another thread, for what slots without a job may do; what
        it gives need not be done.

        Raises:
            StoreError: results cannot be written (a full disk); what was written stays.
        """
        ...

    def map(
        self, function: Callable[[T], R], items: Sequence[T], *, on_done: Callable[[R], None]
    ) -> list[R]:
        """Apply a pure function to every item; results in the order of the items.

        The first error is raised after the others have ended.
        """
        ...


def grow_here(job: MemberJob, on_event: OnEvent) -> tuple[MemberResult, ...]:
    """Grow the members of one GAN in this process, telling about its progress."""
    return tuple(_growing(job, on_event))


def _growing(job: MemberJob, on_event: OnEvent) -> Iterator[MemberResult]:
    def on_progress(progress: TrainProgress) -> None:
        on_event(Event("progress", progress.to_json()))

    return grow(job, on_progress)


class LocalExecutor:
    """One job after another in this process: no Ray needed."""

    slots = 1

    def grow(
        self,
        jobs: Sequence[MemberJob],
        *,
        on_member: Callable[[MemberResult], None],
        on_event: OnEvent,
        ahead: NextPiece = no_piece,
    ) -> Mapping[str, str]:
        """See :meth:`Executor.grow`; the one slot is never free."""
        failed = {}
        for job in jobs:
            try:
                for result in _growing(job, on_event):
                    on_member(result)
            except StoreError:
                raise  # the disk, not the GAN: the others would fail in the same way
            except EnsganError as error:
                failed[job.name] = str(error)
                on_event(Event("failed", {"gan": job.name, "error": str(error)}))
        return failed

    def map(
        self, function: Callable[[T], R], items: Sequence[T], *, on_done: Callable[[R], None]
    ) -> list[R]:
        """See :meth:`Executor.map`."""
        results = []
        for item in items:
            results.append(function(item))
            on_done(results[-1])
        return results
