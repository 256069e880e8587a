"""Steering requests to a running sweep: one file each in ``steer/`` of its folder.

There is no server: everybody who may write to the folder may steer. The driver looks once a second,
takes requests in order, and writes next to each what will happen and later that it has happened.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import Field

from ensgan.config.vary import Value
from ensgan.errors import DataError, EnsganError, InputError, StoreError, last_line
from ensgan.files import not_written, read_json, write_json
from ensgan.outputs import take_lock
from ensgan.sweep.events import Event
from ensgan.sweep.records import Addition, Record, record_from, record_if_whole

if TYPE_CHECKING:
    from ensgan.sweep.member_job import MemberJob

POLL_SECONDS = 1.0
LOCK_SECONDS = 10.0
"""How long a second steering command waits for the first to finish writing."""
LARGEST_REQUEST = 1 << 16
"""Most bytes of a request that are read: the driver must not be held up between two steps."""

Verb: TypeAlias = Literal["stop", "pause", "resume", "retry", "priority", "budget", "add"]


class Request(Record):
    """A request about one GAN, or about the whole sweep (``gan`` None).

    ``value`` is the priority or budget asked for, ``vary`` the added variation: values by setting.
    """

    number: int
    verb: Verb
    gan: str | None = None
    value: float | None = None
    vary: dict[str, Value] = Field(default_factory=dict)
    by: str
    time: float


class Answer(Record):
    """The driver's answer: ``taken`` (what will happen), ``done``, or ``refused`` (why)."""

    state: Literal["taken", "done", "refused"]
    message: str


@dataclass(frozen=True)
class Outcome:
    """What a request leads to, and whether that has happened.

    Attributes:
        will: what will happen, a sentence.
        has: called at every look until it returns True.
        then: what has happened, where that needs other words than ``will``.
    """

    will: str
    has: Callable[[], bool] = lambda: True
    then: str = ""


Handler: TypeAlias = Callable[[Request], Outcome]
"""Applies a request; raises :class:`InputError` to refuse it."""
Intake: TypeAlias = "Callable[[Addition], Sequence[MemberJob]]"
"""Adds to the sweep and returns the jobs that this makes necessary."""


class RequestFolder:
    """The files of ``steer/``; see the module's text."""

    def __init__(self, sweep: Path) -> None:
        self.path = sweep / "steer"

    @property
    def is_open(self) -> bool:
        """Whether a driver takes requests now."""
        return (self.path / "open").exists()

    def post(
        self,
        verb: Verb,
        gan: str | None = None,
        value: float | None = None,
        vary: Mapping[str, Value] | None = None,
    ) -> Request:
        """Write a request for the driver; simultaneous ones are written one after the other.

        Raises:
            InputError: no driver takes requests, or another command keeps the folder locked.
            StoreError: the folder cannot be written.
        """
        try:
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError as error:
            raise InputError("nobody takes requests for this sweep any more") from error
        except OSError as error:
            raise not_written(self.path, error.strerror or str(error)) from error
        try:
            try:
                take_lock(lock, LOCK_SECONDS)
            except OSError as error:
                raise InputError(
                    f"another command has been steering in {self.path} for {LOCK_SECONDS:.0f} s: "
                    "try again when it has ended"
                ) from error
            if not self.is_open:  # again under the lock: the sweep may have ended meanwhile
                raise InputError("the sweep has just ended: it takes no more requests")
            by = f"{getpass.getuser()}@{socket.gethostname()}"
            number = max(self._numbers(), default=0) + 1
            request = Request(
                number=number,
                verb=verb,
                gan=gan,
                value=value,
                vary=dict(vary or {}),
                by=by,
                time=time.time(),
            )
            write_json(self.path / f"{number}.json", request.tree())
            return request
        finally:
            os.close(lock)

    def answer_to(self, request: Request) -> Answer | None:
        """The driver's answer to a request so far."""
        return record_if_whole(Answer, self.path / f"{request.number}.answer")

    def _numbers(self) -> list[int]:
        stems = (path.stem for path in self.path.glob("*.json"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def unread(self, after: int) -> Iterator[tuple[int, Request | str]]:
        """Requests with higher numbers; for an unreadable one, a text with its problem."""
        for number in self._numbers():
            if number > after:
                path = self.path / f"{number}.json"
                try:
                    value = read_json(path, LARGEST_REQUEST)
                    yield number, record_from(Request, value, str(path), None)
                except DataError as error:
                    yield number, str(error)

    def answer(self, number: int, answer: Answer) -> None:
        """Write the driver's answer; on a full disk there is none, and the sweep goes on."""
        with contextlib.suppress(StoreError):
            write_json(self.path / f"{number}.answer", answer.tree())


@dataclass
class Requests:
    """The driver's side: reads what is asked, applies it, answers.

    Attributes:
        folder: of the requests.
        take_in: adds to the sweep; None while nothing is trained.
        is_taking: requests are taken now.
    """

    folder: RequestFolder
    take_in: Intake | None = None
    is_taking: bool = False
    _last: int = 0
    _looked: float = 0.0
    _pending: dict[int, Outcome] = field(default_factory=dict)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take requests while the body runs; those of earlier sessions are forgotten."""
        # Requests of an earlier session were answered with its end: they are not done now.
        self.is_taking = True
        shutil.rmtree(self.folder.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # a full disk: the sweep says so itself
            self.folder.path.mkdir(parents=True)
            (self.folder.path / "open").touch()
        try:
            yield
        finally:
            # Closed first, so that commands refuse any request that would come after the last look.
            (self.folder.path / "open").unlink(missing_ok=True)
            self._see_through(last=True)
            for number, request in self.folder.unread(self._last):
                text = "the sweep ended before it looked at this"
                # A late `ensgan stop` has got what it asked for.
                is_stopped = isinstance(request, Request) and request.verb == "stop"
                state: Literal["done", "refused"] = "done" if is_stopped else "refused"
                self.folder.answer(number, Answer(state=state, message=text))

    def look(self, handler: Handler) -> list[Event]:
        """Apply what is new and say what has happened; at most once a second, quick otherwise.

        Returns:
            An event ``asked`` for every request that was new.
        """
        asked: list[Event] = []
        if time.monotonic() - self._looked < POLL_SECONDS:
            return asked
        for number, request in self.folder.unread(self._last):
            self._last = number
            answer = self._applied(number, request, handler)
            self.folder.answer(number, answer)
            if isinstance(request, Request):
                fields = {"verb": request.verb, "gan": request.gan, "by": request.by}
                asked.append(Event("asked", {**fields, **answer.tree()}))
        self._see_through()
        self._looked = time.monotonic()
        return asked

    def _applied(self, number: int, request: Request | str, handler: Handler) -> Answer:
        if isinstance(request, str):
            return Answer(state="refused", message=request)
        try:
            outcome = handler(request)
        except InputError as error:
            return Answer(state="refused", message=str(error))
        except EnsganError:  # the sweep itself cannot go on, for example in a moved folder
            raise
        except Exception as error:  # no request may end the training of hours
            message = f"it cannot be done: {type(error).__name__}: {last_line(error)}"
            return Answer(state="refused", message=message)
        self._pending[number] = outcome
        return Answer(state="taken", message=outcome.will)

    def _see_through(self, *, last: bool = False) -> None:
        for number, outcome in list(self._pending.items()):
            if outcome.has():
                self.folder.answer(
                    number, Answer(state="done", message=outcome.then or outcome.will)
                )
                del self._pending[number]
            elif last:
                text = f"the sweep ended before this had happened: {outcome.will}"
                self.folder.answer(number, Answer(state="refused", message=text))
