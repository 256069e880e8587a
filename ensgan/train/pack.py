"""Several GANs in one process, which take turns.

On a GPU each training has a stream of its own and a step is one launch, so that their work
overlaps; processes of their own would only take turns on the card. On the CPU they share the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import Generic, TypeAlias, TypeVar

from ensgan.train.loop import StopTraining

T = TypeVar("T")
Turn: TypeAlias = Callable[[], AbstractContextManager[Executor | None]]
"""A context around code that sets or reads state of the whole process, as steps and samples do with
cuDNN's. Where several GANs share the process it yields the thread that makes the steps of all.
"""
Make: TypeAlias = Callable[[Turn, Callable[[], None]], Generator[T, None, None]]


class Turns:
    """A lock that goes to the thread that has waited longest; a plain one would stay with one."""

    def __init__(self) -> None:
        # cuDNN keeps its choice of algorithms per thread. All steps run in one thread, so that it
        # does not choose again for each GAN (or, with a pool of threads, for each result).
        self._steps = ThreadPoolExecutor(1, "steps")
        self._guard, self._is_taken = Lock(), False
        self._waiting: deque[Lock] = deque()

    @contextmanager
    def __call__(self) -> Iterator[Executor]:
        """Hold it while the body runs."""
        ticket = None
        with self._guard:
            if self._is_taken:
                ticket = Lock()
                ticket.acquire()
                self._waiting.append(ticket)
            self._is_taken = True
        if ticket is not None:
            ticket.acquire()  # until the one before lets it go
        try:
            yield self._steps
        finally:
            with self._guard:
                if self._waiting:
                    self._waiting.popleft().release()
                else:
                    self._is_taken = False


def in_turns(steps: Iterator[T], turn: Turn) -> Iterator[T]:
    """The items of an iterable, each made in a turn, by the thread that the turn yields, if any."""
    end = object()
    while True:
        with turn() as thread:
            made = next(steps, end) if thread is None else thread.submit(next, steps, end).result()
        if made is end:
            return
        yield made  # type: ignore[misc]


class _Seat(Generic[T]):
    """A GAN of a pack."""

    def __init__(self, make: Make[T], turn: Turn) -> None:
        self.is_wanted, self.busy = True, Lock()
        self.results = make(turn, self.look)

    def look(self) -> None:
        """Raise StopTraining where the GAN has been asked to end."""
        if not self.is_wanted:
            raise StopTraining


class Pack(Generic[T]):
    """GANs by name and what each of them makes.

    A thread per GAN asks for its results; it trains while that thread waits. One that fails, ends
    or is taken out leaves the others as they are.

    Attributes:
        turn: what all of them share; its body runs alone.
    """

    def __init__(self) -> None:
        self.turn: Turn = Turns()
        self._seats: dict[str, _Seat[T]] = {}

    def begin(self, name: str, make: Make[T]) -> None:
        """Take a GAN in, in place of one of its name.

        Args:
            make: of the pack's turn and of what raises :class:`~ensgan.train.StopTraining` when
                the GAN shall end, the results.
        """
        self.end(name)
        self._seats[name] = _Seat(make, self.turn)

    def next(self, name: str) -> T | None:
        """Train a GAN to its next result; None: it has no more, and has left the pack."""
        seat = self._seats.get(name)
        if seat is None:
            return None
        with seat.busy:
            made = next(seat.results, None)
        if made is None and self._seats.get(name) is seat:
            del self._seats[name]
        return made

    def end(self, name: str) -> None:
        """Take a GAN out at its next step or, where it waits, at once."""
        seat = self._seats.pop(name, None)
        if seat is not None:
            seat.is_wanted = False
            with seat.busy:
                seat.results.close()
