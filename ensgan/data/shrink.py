"""Large images with a linear window to a small square in one pass over their stored values.

Windowing every pixel to 8 bits first and shrinking then (:mod:`ensgan.data.levels` and Pillow)
reads and writes the whole image several times. Here blocks of rows are cut to the window and
summed while they are in the cache; the window's slope is applied to the few pixels that are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ensgan.types import UInt8Array

GAP = 3.0
"""Whole factors shrink an image down to so many times the target; the rest is Lanczos."""

_SLAB = 10

_LEAST_SPAN = 512.0
"""Narrower windows are left to the exact table: limits are whole numbers here, so a grey level is
wrong by at most 255 / 512."""


@dataclass(frozen=True)
class Line:
    """A linear window in stored values: ``low`` to black, ``high`` to white, or ``inverted``."""

    low: float
    high: float
    inverted: bool = False


def shrink(pixels: npt.NDArray[Any], line: Line, size: int) -> UInt8Array | None:
    """Shrink to a square; None where this way does not fit (small image, narrow window).

    Args:
        pixels: stored values, integers of up to 16 bits [H,W].
        line: the window.
        size: side of the result; an image that is not square is stretched.

    Returns:
        uint8 [size,size], within one grey level of windowing first and resizing then.
    """
    height, width = pixels.shape
    factor = int(min(height, width) / (size * GAP))
    if factor < 2 or line.high - line.low < _LEAST_SPAN:
        return None
    limits = np.iinfo(pixels.dtype)
    low, high = (int(np.clip(round(end), limits.min, limits.max)) for end in (line.low, line.high))
    means = _block_means(pixels, factor, low, high)
    box = (0.0, 0.0, width / factor, height / factor)
    resized = Image.fromarray(means).resize((size, size), Image.Resampling.LANCZOS, box=box)
    unit = (np.asarray(resized, np.float64) - line.low) / (line.high - line.low)
    grey = np.asarray(np.rint(255 * np.clip(unit, 0, 1)), np.uint8)
    return 255 - grey if line.inverted else grey


def _block_means(
    pixels: npt.NDArray[Any], factor: int, low: int, high: int
) -> npt.NDArray[np.float32]:
    """Means over ``factor`` × ``factor`` blocks of the values cut to ``low``…``high``.

    The last blocks may be smaller: float32 [⌈H/factor⌉,⌈W/factor⌉].
    """
    height, width = pixels.shape
    rows, columns = np.arange(0, height, factor), np.arange(0, width, factor)
    lows, highs = pixels.dtype.type(low), pixels.dtype.type(high)
    sums = np.empty((len(rows), width), np.int32)
    # Several block rows at once: fewer calls, between which threads would wait for one another.
    slab = np.empty((_SLAB * factor, width), pixels.dtype)
    whole = height // factor
    for first in range(0, whole, _SLAB):
        last = min(first + _SLAB, whole)
        part = pixels[first * factor : last * factor]
        cut = np.clip(part, lows, highs, out=slab[: len(part)])
        blocks = cut.reshape(last - first, factor, width)
        np.add.reduce(blocks, axis=1, dtype=np.int32, out=sums[first:last])
    if whole < len(rows):
        rest = np.clip(pixels[whole * factor :], lows, highs)
        np.add.reduce(rest, axis=0, dtype=np.int32, out=sums[whole])
    totals = np.add.reduceat(sums, columns, axis=1, dtype=np.int64)
    heights = np.diff([*rows, height])[:, None]
    widths = np.diff([*columns, width])[None, :]
    return np.asarray(totals / (heights * widths), np.float32)
