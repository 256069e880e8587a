"""What others ask of a running sweep: one file per request in ``steer/`` of its folder.

No server: whoever may write the folder may steer. The driver looks once a second, takes requests in
their order and writes beside each what will happen, and later that it has.
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
from ensgan.files import read_json, write_json
from ensgan.outputs import take_lock
from ensgan.sweep.events import Event
from ensgan.sweep.records import Addition, Record, record_from, record_if_whole

if TYPE_CHECKING:
    from ensgan.sweep.member_job import MemberJob

POLL_SECONDS = 1.0
LOCK_SECONDS = 10.0
"""What a second steerer waits for the first one's request to be written."""
LARGEST_REQUEST = 1 << 16
"""Bytes of a request that is read: between two steps there is no time for more."""

Verb: TypeAlias = Literal["stop", "pause", "resume", "retry", "priority", "budget", "add"]


class Request(Record):
    """Something asked of one GAN, or of the sweep (None).

    ``value`` is of priority and budget, ``vary`` of what is added: values by setting.
    """

    number: int
    verb: Verb
    gan: str | None = None
    value: float | None = None
    vary: dict[str, Value] = Field(default_factory=dict)
    by: str
    time: float


class Answer(Record):
    """``taken`` says what will happen, ``done`` that it has, ``refused`` why it will not."""

    state: Literal["taken", "done", "refused"]
    message: str


@dataclass(frozen=True)
class Outcome:
    """What a request leads to: a sentence, and whether it has happened.

    Attributes:
        will: what will happen.
        has: asked at every look until it is true.
        then: what has happened, where other words say it better.
    """

    will: str
    has: Callable[[], bool] = lambda: True
    then: str = ""


Handler: TypeAlias = Callable[[Request], Outcome]
"""Applies a request; raises :class:`InputError` to refuse it."""
Intake: TypeAlias = "Callable[[Addition], Sequence[MemberJob]]"
"""Makes what is added part of the sweep; returns what of it is to be trained."""


class RequestFolder:
    """The files of ``steer/``; see the module's text."""

    def __init__(self, sweep: Path) -> None:
        self.path = sweep / "steer"

    @property
    def is_open(self) -> bool:
        """A driver takes requests."""
        return (self.path / "open").exists()

    def post(
        self,
        verb: Verb,
        gan: str | None = None,
        value: float | None = None,
        vary: Mapping[str, Value] | None = None,
    ) -> Request:
        """Put a request down for the driver; two at once come one after the other.

        Raises:
            InputError: no driver takes requests, or another steerer does not let go of the folder.
            StoreError: the folder cannot be written.
        """
        try:
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError as error:
            raise InputError("nobody takes requests for this sweep any more") from error
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error
        try:
            try:
                take_lock(lock, LOCK_SECONDS)
            except OSError as error:
                raise InputError(
                    f"another command has been steering in {self.path} for {LOCK_SECONDS:.0f} s: "
                    "try again when it has ended"
                ) from error
            if not self.is_open:
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
        """What the driver says of a request so far."""
        return record_if_whole(Answer, self.path / f"{request.number}.answer")

    def _numbers(self) -> list[int]:
        stems = (path.stem for path in self.path.glob("*.json"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def unread(self, after: int) -> Iterator[tuple[int, Request | str]]:
        """Requests with higher numbers; a text says what is wrong with one that cannot be read."""
        for number in self._numbers():
            if number > after:
                path = self.path / f"{number}.json"
                try:
                    value = read_json(path, LARGEST_REQUEST)
                    yield number, record_from(Request, value, str(path), None)
                except DataError as error:
                    yield number, str(error)

    def answer(self, number: int, answer: Answer) -> None:
        """The driver's answer; on a full disk the asker waits in vain, and the sweep goes on."""
        with contextlib.suppress(StoreError):
            write_json(self.path / f"{number}.answer", answer.tree())


@dataclass
class Requests:
    """The driver's side: reads what is asked, applies it, answers.

    Attributes:
        folder: of the requests.
        take_in: what takes additions in; None where nothing is trained.
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
        # Whoever asked then was told that the sweep had ended.
        self.is_taking = True
        shutil.rmtree(self.folder.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # a full disk: the sweep says so itself
            self.folder.path.mkdir(parents=True)
            (self.folder.path / "open").touch()
        try:
            yield
        finally:
            # First: what comes after the last look is refused by whoever asks.
            (self.folder.path / "open").unlink(missing_ok=True)
            self._see_through(last=True)
            for number, request in self.folder.unread(self._last):
                text = "the sweep ended before it looked at this"
                # That the sweep ends is what was asked for.
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
        except EnsganError:  # the sweep itself cannot go on: its folder was moved, for example
            raise
        except Exception as error:  # whatever others ask, what is trained goes on
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
