"""Where the marks of the report's drawings lie: numbers to SVG coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 20, 55


@dataclass(frozen=True)
class Axis:
    """A linear axis: ``low`` … ``high`` in data, ``start`` … ``stop`` in pixels."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Pixel of a value, two decimals; values outside go to the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Pixel and text of round values, about five."""
        step = _round_step((self.high - self.low) / 6)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(self(i * step), f"{i * step:.{digits}f}") for i in range(first, last + 1)]


def axis(values: Sequence[float], start: float, stop: float) -> Axis:
    """An axis that shows all values with a little room."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.08 * (high - low) or max(abs(high), 1.0) * 0.05
    return Axis(low - room, high + room, start, stop)


def front_axes(inter: Sequence[float], intra: Sequence[float]) -> tuple[Axis, Axis]:
    """Axes of the front: Inter-d to the right, Intra-d upwards."""
    return axis(inter, LEFT, WIDTH - RIGHT), axis(intra, HEIGHT - BOTTOM, TOP)


def shades(values: Sequence[float]) -> list[float]:
    """Opacity of marks by a third value, from 0.25 for the smallest to 1 for the largest."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    span = high - low
    return [round(0.25 + 0.75 * (value - low) / span, 2) if span else 1.0 for value in values]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
