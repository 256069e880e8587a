"""Where work runs: the stages ask an executor and do not know whether it is Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from ensgan.errors import EnsganError, StoreError
from ensgan.sweep.events import Event, OnEvent
from ensgan.sweep.member_job import MemberJob, MemberResult, grow

if TYPE_CHECKING:
    from ensgan.metrics import Mapper

T = TypeVar("T")
R = TypeVar("R")


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
    ) -> Mapping[str, str]:
        """Run every job to its end; GANs that failed, with the reason.

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

    def mapper(self) -> Mapper:
        """A ``map`` whose results come as they finish, in any order."""
        ...


def grow_here(job: MemberJob, on_event: OnEvent) -> Iterator[MemberResult]:
    """Grow the members of one GAN in this process, telling about its progress."""
    return grow(job, lambda progress: on_event(Event("progress", progress.to_json())))


class LocalExecutor:
    """One job after another in this process: no Ray needed."""

    slots = 1

    def grow(
        self,
        jobs: Sequence[MemberJob],
        *,
        on_member: Callable[[MemberResult], None],
        on_event: OnEvent,
    ) -> Mapping[str, str]:
        """See :meth:`Executor.grow`."""
        failed = {}
        for job in jobs:
            try:
                for result in grow_here(job, on_event):
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

    def mapper(self) -> Mapper:
        """See :meth:`Executor.mapper`."""
        return map
