"""Where work runs: the stages ask an executor and do not know whether it is Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from ensgan.errors import EnsganError, StoreError
from ensgan.sweep.events import Event, OnEvent
from ensgan.sweep.member_job import MemberJob, MemberResult, grow
from ensgan.train import TrainProgress

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
    ) -> Mapping[str, str]:
        """See :meth:`Executor.grow`."""
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


def as_mapper(executor: Executor) -> Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]:
    """The executor as a ``map`` that yields results as they finish, in any order.

    In this process, in order, where the executor has a single slot.
    """
    if executor.slots == 1:
        return map

    def mapper(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        # ``Executor.map`` returns at its end only; a thread turns its callback into an iterator.
        finished: SimpleQueue[tuple[Any, BaseException | None] | None] = SimpleQueue()

        def work() -> None:
            try:
                executor.map(
                    function, list(items), on_done=lambda result: finished.put((result, None))
                )
            except BaseException as error:  # raised again where the results are read
                finished.put((None, error))
            finished.put(None)

        thread = Thread(target=work, name="executor-map", daemon=True)
        thread.start()
        while (entry := finished.get()) is not None:
            result, error = entry
            if error is not None:
                raise error
            yield result
        thread.join()

    return mapper
