"""Which GAN is trained next, and how steering changes that; the same with Ray and without."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from ensgan.errors import InputError, unknown_name
from ensgan.sweep.events import Event, OnEvent, ignore
from ensgan.sweep.live.requests import Outcome, Request, Requests
from ensgan.sweep.records import Addition
from ensgan.text import counted, some

if TYPE_CHECKING:
    from ensgan.sweep.member_job import MemberJob

PAUSED, STOPPED, RESUMED, SPENT = "paused", "stopped", "resumed", "out of budget"
"""Why a GAN is not trained now. A sweep waits for paused GANs, but ends without stopped ones."""
AGAIN = "the same `ensgan sweep` command goes on from here"


class Turn(Protocol):
    """A GAN that waits to be trained, with whatever else its executor keeps about it."""

    @property
    def gan(self) -> str:
        """Its name."""
        ...


T = TypeVar("T", bound=Turn)


class TrainingOrder(Generic[T]):
    """Owns what waits, runs and is held back; used by one thread.

    A trial is told to end by a stop file: at its next step it writes a checkpoint and ends.

    Args:
        turns: what to train, in this order.
        stop_files: by GAN, the file that makes its trial end.
        priority: by GAN, 0 by default.
        requests: steering requests; None if the sweep cannot be steered.
        on_event: called when GANs are held back (``held``) or tried again (``retried``).

    Attributes:
        enlist: turns added jobs into turns, each with its stop file; None if nothing can be added.
        waiting: turns not handed out yet.
        running: turns by trial.
        held: GAN → why it is not trained now.
        failed: GAN → why it will not be finished.
        ended: why nothing is handed out any more.
        priority: by GAN, 0 by default.
        raise_budget: sets the GPU-hours of a sweep that has a budget.
    """

    def __init__(
        self,
        turns: Sequence[T],
        stop_files: Mapping[str, Path],
        priority: Mapping[str, float] | None = None,
        requests: Requests | None = None,
        on_event: OnEvent = ignore,
    ) -> None:
        self.waiting = list(turns)
        self.running: dict[str, T] = {}
        self.held: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.ended: str | None = None
        self.is_paused = False
        self.raise_budget: Callable[[float], None] | None = None
        self.enlist: Callable[[Sequence[MemberJob]], Mapping[T, Path]] | None = None
        self._stop_files, self.priority = dict(stop_files), dict(priority or {})
        self._requests, self.on_event = requests, on_event
        self._turns = {turn.gan: turn for turn in turns}
        self._complete: set[str] = set()
        # Stop files of an earlier session would end the new trials at once.
        for gan in stop_files:
            self._signal(gan, wanted=False)

    @property
    def training(self) -> set[str]:
        """GANs that run now."""
        return {turn.gan for turn in self.running.values()}

    @property
    def waits(self) -> bool:
        """Whether there is nothing to hand out only because it is paused."""
        paused = (self.is_paused and bool(self.waiting)) or PAUSED in self.held.values()
        return self.ended is None and paused

    def next(self, may_begin: Callable[[str], bool] = lambda gan: True) -> T | None:
        """The next turn that may begin; it counts as running only after :meth:`begin`."""
        if self.ended is not None or self.is_paused:
            return None
        free = (turn for turn in self.waiting if turn.gan not in self.held)
        return next((turn for turn in free if may_begin(turn.gan)), None)

    def begin(self, trial: str, turn: T) -> None:
        """A turn is handed out."""
        self.waiting.remove(turn)
        self._signal(turn.gan, wanted=False)
        self.running[trial] = self._turns[turn.gan] = turn

    def end(self, trial: str, *, is_complete: bool, is_spent: bool = False) -> None:
        """A trial has ended, well or badly.

        Args:
            is_complete: the GAN has all its snapshots.
            is_spent: it ended because the budget is used up.
        """
        turn = self.running.pop(trial, None)
        # Another trial of the same GAN may run already: then the GAN has not ended.
        if turn is None or turn.gan in self.training:
            return
        gan = turn.gan
        self._signal(gan, wanted=False)
        if is_complete:
            self._complete.add(gan)
            self.held.pop(gan, None)
        elif self.held.get(gan) == RESUMED or (self.is_paused and gan not in self.held):
            # Asked to go on while it was ending: a stopped trial cannot continue, a new one can.
            self._release(gan)
        elif is_spent and not (gan in self.held or gan in self.failed or self._is_waiting(gan)):
            self.held[gan] = SPENT

    def fail(self, gan: str, reason: str) -> None:
        """A GAN will not be finished."""
        self.failed[gan] = reason
        self.held.pop(gan, None)
        self.on_event(Event("failed", {"gan": gan, "error": reason}))

    def look(self) -> None:
        """Handle new steering requests."""
        if self._requests is not None:
            for asked in self._requests.look(self.apply):
                self.on_event(asked)

    def apply(self, request: Request) -> Outcome:
        """Do what a request asks, or begin to.

        Raises:
            InputError: the request cannot be met now; says why.
        """
        gan = request.gan
        if request.verb == "add":
            return self._add(Addition(gan=gan, vary=request.vary))
        if gan is not None and gan not in self._stop_files:
            names = list(self._stop_files)
            raise InputError(unknown_name("GAN that is trained in this session", gan, names))
        name, value = str(gan), request.value
        actions: Mapping[tuple[str, bool], Callable[[], Outcome]] = {  # by verb, for one GAN or all
            ("stop", False): self._stop_all,
            ("pause", False): self._pause_all,
            ("resume", False): self._resume_all,
            ("budget", False): lambda: self._set_budget(value),
            ("stop", True): lambda: self._hold_back(name, STOPPED),
            ("pause", True): lambda: self._hold_back(name, PAUSED),
            ("resume", True): lambda: self._resume(name),
            ("retry", True): lambda: self._retry(name),
            ("priority", True): lambda: self._prioritise(name, value),
        }
        if (action := actions.get((request.verb, gan is not None))) is None:
            raise InputError(
                f"{request.verb} is for {'the whole sweep' if gan else 'a single GAN'}"
            )
        outcome = action()
        self.on_event(Event("held", {"gans": dict(self.held), "all": self.is_paused}))
        return outcome

    def _add(self, addition: Addition) -> Outcome:
        if self._requests is None or self._requests.take_in is None or self.enlist is None:
            raise InputError("nothing can be added to what is trained here")
        if self.ended is not None:
            raise InputError(f"the sweep is {self.ended}: add when it runs again")
        jobs = self._requests.take_in(addition)
        if not jobs:
            return Outcome(f"added {addition}: none of it needs training now")
        for turn, stop_file in self.enlist(jobs).items():
            self._stop_files[turn.gan], self._turns[turn.gan] = stop_file, turn
            # A stop file of an earlier session would end the new trial at once.
            self._signal(turn.gan, wanted=False)
            self.waiting.append(turn)
        self.waiting.sort(key=lambda turn: -self.priority.get(turn.gan, 0))
        names = [job.name for job in jobs]
        when = "when the sweep is resumed" if self.is_paused else "as slots become free"
        members = sum(len(job.names) for job in jobs)
        shown, many = some(names, 5), counted(members, "member")
        return Outcome(f"added {shown}: {many} to come, trained {when}")

    def _stop_all(self) -> Outcome:
        self.ended = "stopped by `ensgan stop`"
        return Outcome(
            f"{self._end_running()}; {AGAIN}", lambda: not self.running, f"stopped; {AGAIN}"
        )

    def _pause_all(self) -> Outcome:
        if self.is_paused:
            raise InputError("it is paused already: `ensgan resume` continues it")
        # Trials end at a checkpoint and free their slots; the driver stays and waits.
        self.is_paused = True
        then = "paused: nothing is trained until `ensgan resume`"
        return Outcome(self._end_running(), lambda: not self.running, then)

    def _end_running(self) -> str:
        names = sorted(self.training)
        for gan in names:
            self._signal(gan, wanted=True)
        if not names:
            return "nothing is being trained, and nothing will be"
        return f"ending at a checkpoint of their next step: {', '.join(names)}"

    def _resume_all(self) -> Outcome:
        held = [gan for gan, word in self.held.items() if word in (PAUSED, STOPPED)]
        if not held and not self.is_paused:
            raise InputError("nothing is paused or stopped")
        self.is_paused = False
        for gan in held:
            self._release(gan)
        return Outcome("training goes on", lambda: bool(self.running) or not self.waiting)

    def _hold_back(self, gan: str, word: str) -> Outcome:
        self._refuse_ended(gan)
        if self.held.get(gan) == word:
            raise InputError(f"{gan} is {word} already")
        goes_on = "`ensgan resume` or a later `ensgan sweep` continues it"
        then = f"{gan} is {word}: {goes_on}"
        if gan in self.training:
            # It is held from now on, so that its end does not make it wait for a slot again.
            self.held[gan] = word
            self._signal(gan, wanted=True)
            will = f"{gan} ends at a checkpoint of its next step; {goes_on}"
            return Outcome(will, lambda: gan not in self.training, then)
        self.held[gan] = word
        return Outcome(f"{gan} was not running and will not be started; {goes_on}", then=then)

    def _resume(self, gan: str) -> Outcome:
        self._refuse_ended(gan)
        if self.held.get(gan) not in (PAUSED, STOPPED):
            state = "running" if gan in self.training else self.held.get(gan, "waiting")
            raise InputError(f"{gan} is {state}: there is nothing to resume")
        self._release(gan)
        return self._comes_next(gan)

    def _retry(self, gan: str) -> Outcome:
        if gan not in self.failed:
            state = "running" if gan in self.training else self.held.get(gan, "waiting")
            state = "finished" if gan in self._complete else state
            raise InputError(f"nothing to retry: {gan} has not failed, it is {state}")
        del self.failed[gan]
        self._release(gan)
        self.on_event(Event("retried", {"gan": gan}))
        return self._comes_next(gan)

    def _prioritise(self, gan: str, value: float | None) -> Outcome:
        self._refuse_ended(gan)
        if value is None:
            raise InputError("a priority is a number; higher goes first")
        self.priority[gan] = value
        # The sort is stable, so GANs of equal priority stay ordered by length, longest first.
        self.waiting.sort(key=lambda turn: -self.priority.get(turn.gan, 0))
        names = [turn.gan for turn in self.waiting if turn.gan not in self.held]
        if gan not in names:
            state = "is running" if gan in self.training else f"is {self.held.get(gan, 'ending')}"
            return Outcome(f"{gan} {state}; its priority of {value:g} counts when it waits again")
        return Outcome(f"{gan} has priority {value:g}; next are {', '.join(names[:5])}")

    def _set_budget(self, hours: float | None) -> Outcome:
        if self.raise_budget is None or hours is None:
            raise InputError(
                "the sweep runs without a budget: `ensgan stop` it and run it again with "
                "--gpu-hours"
            )
        self.raise_budget(hours)
        for gan in [gan for gan, word in self.held.items() if word == SPENT]:
            self._release(gan)
        return Outcome(f"the budget is {hours:g} hours from now on, those taken so far included")

    def _refuse_ended(self, gan: str) -> None:
        if gan in self.failed:
            raise InputError(
                f"{gan} has failed ({self.failed[gan]}): `ensgan retry` tries it again"
            )
        if gan in self._complete:
            raise InputError(f"{gan} is finished: all its snapshots are there")

    def _comes_next(self, gan: str) -> Outcome:
        when = "after its trial has ended" if gan in self.training else "at the next free slot"
        if self.is_paused:
            when = "when the sweep is resumed"
        began = lambda: gan in self.training and gan not in self.held  # noqa: E731
        return Outcome(
            f"{gan} goes on {when}, from its last checkpoint", began, f"{gan} has a slot"
        )

    def _is_waiting(self, gan: str) -> bool:
        return any(turn.gan == gan for turn in self.waiting)

    def _release(self, gan: str) -> None:
        """Let a GAN be trained again, or once its trial has ended if that is just ending."""
        if gan in self.training:
            self.held[gan] = RESUMED
            return
        self.held.pop(gan, None)
        if gan not in self.failed and not self._is_waiting(gan):
            self.waiting.insert(0, self._turns[gan])

    def _signal(self, gan: str, *, wanted: bool) -> None:
        path = self._stop_files[gan]
        with contextlib.suppress(OSError):  # on a full disk trials cannot write, and end anyway
            if wanted:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            else:
                path.unlink(missing_ok=True)
