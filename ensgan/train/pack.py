"""Several GANs in one process, which take turns; and how many of them are worth it.

On a GPU each training has a stream of its own and a step is one launch, so that their work
overlaps; processes of their own would only take turns on the card. On the CPU they share the time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import Generic, TypeAlias, TypeVar

import torch

from ensgan.train.captured import Steps
from ensgan.train.loop import StopTraining
from ensgan.train.settings import TrainSettings
from ensgan.train.step import Record
from ensgan.train.training import Training
from ensgan.types import Samples
from ensgan.zoo.spec import GANSpec

T = TypeVar("T")
Turn: TypeAlias = Callable[[], AbstractContextManager[None]]
"""Around what sets or reads a state of the whole process, as steps and samples do of cuDNN's."""

WORTHWHILE = 1.1
"""Twice as many trainings must make this many times the steps."""
LEAST_SECONDS = 1.5


class Turns:
    """A lock that goes to whoever has waited longest: else one thread would keep it."""

    def __init__(self) -> None:
        self._guard, self._is_taken = Lock(), False
        self._waiting: deque[Lock] = deque()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold it while the body runs."""
        ticket = None
        with self._guard:
            if self._is_taken:
                ticket = Lock()
                ticket.acquire()
                self._waiting.append(ticket)
            self._is_taken = True
        if ticket is not None:
            ticket.acquire()  # whoever is before lets it go
        try:
            yield
        finally:
            with self._guard:
                if self._waiting:
                    self._waiting.popleft().release()
                else:
                    self._is_taken = False


def in_turns(steps: Iterator[T], turn: Turn) -> Iterator[T]:
    """The same, each made in a turn."""
    while True:
        with turn():
            try:
                made = next(steps)
            except StopIteration:
                return
        yield made


class _Seat(Generic[T]):
    """A GAN of a pack."""

    def __init__(self) -> None:
        self.results: Generator[T, None, None] | None = None
        self.is_wanted, self.busy = True, Lock()

    def look(self) -> None:
        """End where the GAN is asked to."""
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

    def begin(
        self, name: str, make: Callable[[Turn, Callable[[], None]], Generator[T, None, None]]
    ) -> None:
        """Take a GAN in, in place of one of its name.

        Args:
            make: of the pack's turn and of what raises :class:`~ensgan.train.StopTraining` when
                the GAN shall end, the results.
        """
        self.end(name)
        seat: _Seat[T] = _Seat()
        seat.results = make(self.turn, seat.look)
        self._seats[name] = seat

    def next(self, name: str) -> T | None:
        """Train a GAN to its next result; None: it has no more, and has left the pack."""
        seat = self._seats.get(name)
        if seat is None or seat.results is None:
            return None
        with seat.busy:
            made = next(seat.results, None)
        if made is None and self._seats.get(name) is seat:
            del self._seats[name]
        return made

    def end(self, name: str) -> None:
        """Take a GAN out at its next step or, where it waits, at once."""
        seat = self._seats.pop(name, None)
        if seat is not None and seat.results is not None:
            seat.is_wanted = False
            with seat.busy:
                seat.results.close()


def gans_worth_sharing(
    spec: GANSpec, reals: Samples, num_classes: int, settings: TrainSettings, most: int
) -> int:
    """How many trainings like this one process should carry: doubled while that is faster in all.

    Measured on the device of the settings. What does not fit into its memory is not worth it.
    """

    def make() -> Steps:
        return Steps(Training(spec, reals, num_classes, settings), Record(spec.name))

    return worthwhile(pace_together(make), most)


def pace_together(
    make: Callable[[], Steps], least_seconds: float = LEAST_SECONDS
) -> Callable[[int], float]:
    """What measures the full steps per second, in all, of so many trainings taking turns.

    Args:
        make: a training of its own each time; those made are kept for larger counts.
        least_seconds: that each measurement takes.
    """
    made: list[Steps] = []

    def settle() -> None:
        if made[0].training.device.type == "cuda":
            torch.cuda.synchronize()

    def advance() -> None:
        for steps in made:
            steps.step()

    def pace(count: int) -> float:
        while len(made) < count:
            made.append(make())
        for _ in range(3):  # libraries load, cuDNN chooses, steps are captured
            advance()
        settle()
        begin, rounds = time.perf_counter(), 0
        while not rounds or time.perf_counter() - begin < least_seconds:
            advance()
            rounds += 1
            if rounds % 10 == 0:
                settle()
        settle()
        return count * rounds / (time.perf_counter() - begin)

    return pace


def worthwhile(pace: Callable[[int], float], most: int) -> int:
    """How many trainings one process should carry: doubled while that makes it faster in all.

    Args:
        pace: steps per second of so many; :class:`torch.OutOfMemoryError` ends the doubling.
        most: no more than these.
    """
    best, rate = 1, pace(1)
    while 2 * best <= most:
        try:
            faster = pace(2 * best)
        except torch.OutOfMemoryError:
            break
        if faster < WORTHWHILE * rate:
            break
        best, rate = 2 * best, faster
    return best
