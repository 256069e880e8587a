"""A budget of training: what it allows, the hours taken, and whether another snapshot fits.

Nothing here knows Ray. A budget changes neither members nor their order: trials run as without one,
by priority and then the longest first, and a snapshot is begun only if the rest of the budget
suffices to finish it.
"""

from __future__ import annotations

import contextlib
import glob
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ensgan.errors import DataError, InputError, StoreError
from ensgan.files import MISFITS, read_json, write_json

if TYPE_CHECKING:  # `ensgan budget` checks hours without torch
    from ensgan.sweep.member_job import MemberJob, MemberResult

SLACK = 1.05
"""A snapshot is begun when this many times its expected cost is left."""
SAVE_SECONDS = 15.0
"""Seconds between writes of the hours taken; a killed driver loses at most this much."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Budget:
    """What the training of a sweep may take.

    Attributes:
        gpu_hours: of all trials of the sweep together, earlier sessions included. A trial on half
            a GPU takes half; CPU-hours where trials get no GPU. None: unbounded.
        deadline: when training ends, seconds since the epoch. None: never.
    """

    gpu_hours: float | None = None
    deadline: float | None = None

    def __post_init__(self) -> None:
        hours = self.gpu_hours
        if hours is not None and not (math.isfinite(hours) and hours > 0):
            raise InputError(f"--gpu-hours must be a number above 0, not {hours:g}")
        if self.deadline is not None and not math.isfinite(self.deadline):
            raise InputError(f"the deadline must be a time, not {self.deadline:g}")


def make_budget(gpu_hours: float | None, deadline: str | None) -> Budget | None:
    """A budget from the options of the command line; None without any.

    Raises:
        InputError: a value that makes no sense.
    """
    if gpu_hours is None and deadline is None:
        return None
    return Budget(gpu_hours, None if deadline is None else parse_deadline(deadline, time.time()))


def parse_deadline(text: str, now: float) -> float:
    """``90m``, ``6h``, ``2d`` from now, or a local time like ``2026-12-01T08:00``.

    Raises:
        InputError: it is neither, or has passed.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", text.strip())
    try:
        when = (
            now + float(match[1]) * _UNITS[match[2]]
            if match
            else datetime.fromisoformat(text.strip()).timestamp()
        )
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(
            f"--deadline '{text}': write 90m, 6h, 2d or a time like 2026-12-01T08:00"
        ) from error
    if when <= now:
        raise InputError(f"--deadline '{text}' has passed")
    return when


@dataclass
class _Running:
    """A trial that has a slot."""

    gan: str
    charged: float
    """Its time is counted up to here (seconds since the epoch)."""
    steps_left: int
    """To its next snapshot."""


class Spending:
    """The hours that the trials of a sweep have taken, and whether another snapshot fits.

    A step's seconds are those of the running trial, else those measured by an earlier training on
    this storage, else inferred from another GAN by the ratio of their estimated efforts. Sampling
    and scoring come on top: the most that any snapshot of this session took.

    Every second that a trial has its slot counts, times its share of a GPU, so that the figure is
    what the owner of the card pays. The sum is kept in ``hours.json`` of the sweep's folder, with
    or without a budget, because a later session's budget counts from the first one.

    Args:
        budget: None for no limit.
        jobs: all trials of this session.
        shares: by GAN, how many hours an hour of its trial counts.
        clock: seconds since the epoch.

    Attributes:
        jobs: all trials' by GAN, those added later too.
    """

    def __init__(
        self,
        budget: Budget | None,
        jobs: Sequence[MemberJob],
        shares: Mapping[str, float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.budget = budget or Budget()
        self._per_step: dict[str, float] = {}
        self._finishing = 0.0
        self.jobs: dict[str, MemberJob] = {}
        self._shares: dict[str, float] = {}
        self._made: dict[str, int] = {}
        self._clock = clock
        self.add(jobs, shares)
        self._running: dict[str, _Running] = {}
        self._path = jobs[0].scoring.results / "hours.json"
        self._hours = self._earlier_hours()
        self._saved = clock()

    def add(self, jobs: Sequence[MemberJob], shares: Mapping[str, float]) -> None:
        """Count further jobs; arguments as for the class."""
        self.jobs |= {job.name: job for job in jobs}
        self._shares |= shares
        self._per_step |= {job.name: job.seconds_per_step for job in jobs if job.seconds_per_step}
        # Snapshots on disk are taken in even when the budget is used up: they cost nothing more.
        self._made |= {job.name: job.made() for job in jobs}

    @property
    def hours(self) -> float:
        """GPU-hours taken so far, running trials included."""
        now = self._clock()
        return self._hours + sum(self._uncharged(trial, now) for trial in self._running.values())

    def trial_started(self, trial_id: str, gan: str) -> None:
        """A trial has got its slot; its time counts from now on."""
        spacing = self.jobs[gan].settings.spacing
        self._running[trial_id] = _Running(gan, self._clock(), spacing)

    def trial_ended(self, trial_id: str) -> None:
        """A trial has left its slot.

        Its time since the last snapshot counts too: that work is kept in its resume checkpoint.
        """
        if trial_id in self._running:
            self._charge(self._running.pop(trial_id))
            self.save()

    def progress(self, gan: str, step: int, steps_per_second: float | None) -> None:
        """Take in the progress and speed of a running trial."""
        spacing = self.jobs[gan].settings.spacing
        for trial in self._running.values():
            if trial.gan == gan:
                trial.steps_left = spacing - step % spacing
        if steps_per_second:
            self._per_step[gan] = 1 / steps_per_second

    def may_continue(self, trial_id: str, member: MemberResult) -> bool:
        """Whether a trial that has just finished ``member`` may begin its next snapshot."""
        trial = self._running.get(trial_id)
        if trial is None:
            return True
        job = self.jobs[trial.gan]
        done = job.names.index(member.name) + 1
        if done <= self._made[trial.gan]:
            trial.charged = self._clock()  # found on disk: its time was counted when it was made
        else:
            self._made[trial.gan] = done
            self._charge(trial)
            begin, end = member.work[-1]
            # The most and not the mean: a snapshot that cannot be scored in time is lost.
            self._finishing = max(self._finishing, end - begin)
        trial.steps_left = job.settings.spacing
        self.save()
        return done < self._made[trial.gan] or done == len(job.names) or self._fits(trial.gan)

    def may_begin(self, gan: str) -> bool:
        """Whether a trial of the GAN may start."""
        return self._made[gan] > 0 or self._fits(gan)

    def exhausted(self) -> str | None:
        """Why nothing may run any more, or None."""
        if self.budget.gpu_hours is not None and self.hours >= self.budget.gpu_hours:
            return f"{self.budget.gpu_hours:g} GPU-hours are spent"
        if self.budget.deadline is not None and self._clock() >= self.budget.deadline:
            return "the deadline has come"
        return None

    def reason(self) -> str:
        """Why a GAN was stopped before its last snapshot."""
        return self.exhausted() or "what is left of the budget does not finish another snapshot"

    def save(self, *, now_and_then: bool = False) -> None:
        """Write the hours; with ``now_and_then`` at most every :data:`SAVE_SECONDS`."""
        now = self._clock()
        if now_and_then and now - self._saved < SAVE_SECONDS:
            return
        self._saved = now
        for trial in self._running.values():
            self._charge(trial)
        with contextlib.suppress(StoreError):  # a full disk: the trials find out themselves
            write_json(self._path, {"hours": self._hours})

    def seconds(self, gan: str, steps: int) -> float | None:
        """Seconds of so many steps up to a snapshot, scoring included; None while unknown."""
        per_step = self._per_step.get(gan) or self._inferred(gan)
        return None if per_step is None else per_step * steps + self._finishing

    def _inferred(self, gan: str) -> float | None:
        """Seconds per step from those of the other GANs."""
        jobs = {name: self.jobs[name] for name in (gan, *self._per_step)}
        efforts = {name: job.effort / job.settings.steps for name, job in jobs.items()}
        if not self._per_step or not all(efforts.values()):
            return None
        ratio = sum(self._per_step.values()) / sum(efforts[name] for name in self._per_step)
        return ratio * efforts[gan]

    def _fits(self, gan: str) -> bool:
        """Whether the rest of the budget, less what running trials need, finishes a snapshot."""
        if self.exhausted():
            return False
        seconds = self.seconds(gan, self.jobs[gan].settings.spacing)
        if seconds is None:
            return True  # nothing was measured yet: the first trials do that
        seconds *= SLACK
        hours, deadline = self.budget.gpu_hours, self.budget.deadline
        if deadline is not None and self._clock() + seconds > deadline:
            return False
        if hours is None:
            return True
        # Running trials were begun because their snapshot fits: that part is not available here.
        promised = sum(
            self._shares[trial.gan] * (self.seconds(trial.gan, trial.steps_left) or 0.0)
            for trial in self._running.values()
            if trial.gan != gan
        )
        return self.hours + (promised + self._shares[gan] * seconds) / 3600 <= hours

    def _charge(self, trial: _Running) -> None:
        now = self._clock()
        self._hours += self._uncharged(trial, now)
        trial.charged = now

    def _uncharged(self, trial: _Running, now: float) -> float:
        return self._shares[trial.gan] * (now - trial.charged) / 3600

    def _earlier_hours(self) -> float:
        """Hours of earlier sessions, from ``hours.json`` or else from their members' records."""
        try:
            return float(read_json(self._path)["hours"])
        except (DataError, *MISFITS):
            return sum(
                self._shares[gan] * float(end - begin) / 3600
                for gan in self.jobs
                for path in (self._path.parent / "members").glob(f"{glob.escape(gan)}@*.json")
                for begin, end in read_json(path).get("work", ())
            )
