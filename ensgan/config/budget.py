"""What the training of a sweep may take, from the user's options."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from datetime import datetime

from ensgan.errors import InputError

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
