"""Spending a bounded budget on the GANs that can still matter.

Under a budget GANs advance in rounds, one snapshot a round, the most promising first. A GAN leaves
when even an optimistic continuation of its scores is dominated, with a margin, by members that
others already have; what it would have taken goes to the rest.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ensgan.errors import InputError
from ensgan.sweep.member_job import MemberResult

MARGIN = 0.1
"""How much better, as a part of the optimistic scores, the others must be."""
QUORUM = 2
"""GANs that must dominate: an ensemble has two members at least."""
EVIDENCE = 2
"""Snapshots before anything is said about a GAN."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Budget:
    """What a sweep's training may take.

    Attributes:
        gpu_hours: of all trials of the sweep together, members of earlier sessions included; a
            trial on half a GPU takes half (CPU-hours where trials get no GPU). None: unbounded.
        deadline: when training ends, seconds since the epoch. None: never.
        scheduler: ``front`` (rounds, see the module) or ``asha`` (Tune's ASHA on Intra-d).
    """

    gpu_hours: float | None = None
    deadline: float | None = None
    scheduler: Literal["front", "asha"] = "front"

    def __post_init__(self) -> None:
        if self.gpu_hours is not None and not self.gpu_hours > 0:
            raise InputError(f"--gpu-hours must be above 0, not {self.gpu_hours:g}")
        if self.scheduler not in ("front", "asha"):
            raise InputError(f"--scheduler is front or asha, not '{self.scheduler}'")

    def spent(self, hours: float, now: float) -> str | None:
        """Why nothing more may run, or None."""
        if self.gpu_hours is not None and hours >= self.gpu_hours:
            return f"{self.gpu_hours:g} GPU-hours are spent"
        if self.deadline is not None and now >= self.deadline:
            return "the deadline has come"
        return None


def make_budget(
    gpu_hours: float | None, deadline: str | None, scheduler: str | None
) -> Budget | None:
    """A budget from what the command line says; None when it says nothing.

    Raises:
        InputError: a value that makes no sense.
    """
    if gpu_hours is None and deadline is None and scheduler is None:
        return None
    when = None if deadline is None else parse_deadline(deadline, time.time())
    return Budget(gpu_hours, when, scheduler or "front")  # type: ignore[arg-type]


def parse_deadline(text: str, now: float) -> float:
    """``90m``, ``6h``, ``2d`` from now, or a local time like ``2026-12-01T08:00``.

    Raises:
        InputError: it is neither, or has passed.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if match:
        return now + float(match[1]) * _UNITS[match[2]]
    try:
        when = datetime.fromisoformat(text.strip()).timestamp()
    except ValueError as error:
        raise InputError(
            f"--deadline '{text}': write 90m, 6h, 2d or a time like 2026-12-01T08:00"
        ) from error
    if when <= now:
        raise InputError(f"--deadline '{text}' has passed")
    return when


@dataclass(frozen=True)
class Promise:
    """The best that the scores of a GAN's coming snapshots may be."""

    density: float
    coverage: float

    @property
    def intra_d(self) -> float:
        """Harmonic mean of the two."""
        total = self.density + self.coverage
        return 2 * self.density * self.coverage / total if total else 0.0


def promise(history: Sequence[MemberResult], planned: int) -> Promise:
    """Optimistic scores: the best so far, and its largest gain again at every snapshot to come."""
    left = planned - len(history)

    def best(values: list[float]) -> float:
        gains = [after - before for before, after in zip([0.0, *values], values, strict=False)]
        # The first gain is from nothing; later ones say how fast this GAN learns.
        return max(values) + left * max(0.0, *(gains[1:] or gains))

    return Promise(
        best([member.density for member in history]),
        min(1.0, best([member.coverage for member in history])),
    )


def dominated(
    gan: str,
    histories: Mapping[str, Sequence[MemberResult]],
    planned: int,
    *,
    margin: float = MARGIN,
    quorum: int = QUORUM,
) -> str | None:
    """Why the GAN can no longer enter the front, or None.

    At least ``quorum`` other GANs have a member whose density and coverage both exceed, by
    ``margin``, all that this GAN may still reach.
    """
    own = histories.get(gan, ())
    if len(own) < EVIDENCE or len(own) >= planned:
        return None
    hope = promise(own, planned)
    better = [
        other
        for other, members in histories.items()
        if other != gan
        and any(
            member.density >= hope.density * (1 + margin)
            and member.coverage >= hope.coverage * (1 + margin)
            for member in members
        )
    ]
    if len(better) < quorum:
        return None
    return (
        f"may reach density {hope.density:.3f} and coverage {hope.coverage:.3f}; "
        f"{', '.join(sorted(better)[:quorum])} are beyond by {margin:.0%}"
    )
