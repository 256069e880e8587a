"""Stored pixel values of any depth to 8 bits, at their own size or shrunk on the way.

Windowing every pixel first and shrinking then reads and writes a large image several times. For a
linear window :func:`shrink` cuts blocks of rows to the window and sums them while they are in the
cache; the window's slope is applied to the few pixels that are left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ensgan.errors import DataError
from ensgan.inputs import explained
from ensgan.types import Float64Array, UInt8Array

if TYPE_CHECKING:
    from pydicom import Dataset as DicomDataset

PERCENTILES = (2.0, 98.0)
"""The window of images that bring none of their own."""

WINDOWS = ("auto", "percentile", "full")
"""``auto``: the file's own window, else percentiles for more than 8 bits; ``percentile``: always
the 2–98 percentile window; ``full``: the whole stored range."""
STRETCHED = "stretched"
"""Remark on a picture: ``auto`` found no window and spread its values between percentiles."""

GAP = 3.0
"""Whole factors shrink an image down to so many times the target; the rest is Lanczos."""

_SLAB = 10
_LEAST_SPAN = 512.0
"""Narrower windows are left to the exact table: limits are whole numbers here, so a grey level is
wrong by at most 255 / 512."""

_ROWS = 64  # rows looked up at once: their index block stays in the cache
_SAMPLED = 256  # pixels per side that percentiles are taken from


def to_8_bit(pixels: npt.NDArray[Any], window: str) -> UInt8Array:
    """Bring an array of any number type to uint8 by a linear window.

    Args:
        pixels: [H,W] or [H,W,3]; integers, or floats (0…1 or any other range).
        window: one of :data:`WINDOWS`.
    """
    if pixels.dtype == np.uint8 and window != "percentile":
        return pixels
    low, high = _range(pixels, window)
    if pixels.dtype in (np.uint8, np.uint16):
        values = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=np.float64)
        return look_up(pixels, quantise(linear(values, low, high)))
    result = np.empty(pixels.shape, np.uint8)
    for row in range(0, len(pixels), _ROWS):  # in parts: each step needs eight bytes per value
        part = slice(row, row + _ROWS)
        result[part] = quantise(linear(pixels[part].astype(np.float64), low, high))
    return result


def is_stretched(pixels: npt.NDArray[Any]) -> bool:
    """Whether the window "auto" spreads these values between percentiles."""
    return pixels.dtype != np.uint8 and not _is_unit(pixels)


def _is_unit(pixels: npt.NDArray[Any]) -> bool:
    return bool(pixels.dtype.kind == "f" and pixels.min() >= 0 and pixels.max() <= 1)


def _range(pixels: npt.NDArray[Any], window: str) -> tuple[float, float]:
    if window != "percentile" and _is_unit(pixels):
        return 0.0, 1.0
    if window == "full" and pixels.dtype == np.uint16:
        return 0.0, 65535.0
    if window == "full":
        return float(pixels.min()), float(pixels.max())
    return percentile_window(sample(pixels))


def sample(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Evenly spaced pixels, at most about 512 × 512 of them, for estimating percentiles."""
    step = max(1, min(pixels.shape[:2]) // _SAMPLED)
    return pixels[::step, ::step]


def percentile_window(values: npt.NDArray[Any]) -> tuple[float, float]:
    """The 2nd and 98th percentile, or the whole range where those are equal."""
    low, high = np.percentile(values, PERCENTILES)
    if low == high:
        low, high = values.min(), values.max()
    return float(low), float(high)


def linear(values: Float64Array, low: float, high: float) -> Float64Array:
    """``low`` → 0, ``high`` → 1, cut outside; all 0 where the two are equal."""
    return np.clip((values - low) / ((high - low) or 1.0), 0, 1)


def voi_window(values: Float64Array, dataset: DicomDataset) -> Float64Array:
    """Modality values to 0…1 by the first window of a DICOM file and its VOI LUT function.

    Source: DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.
    """
    with explained("its window is unusable"):
        given = (dataset[name].value for name in ("WindowCenter", "WindowWidth"))
        # Several windows are lists, of which the first is meant.
        center, width = (float(np.atleast_1d(value)[0]) for value in given)
    if not (math.isfinite(center) and math.isfinite(width)):
        raise DataError(f"its window has the centre {center:g} and the width {width:g}")
    function = str(dataset.get("VOILUTFunction", "LINEAR") or "LINEAR")
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise DataError(f"its window width is {width:g}")
    if function == "SIGMOID":
        exponent = np.clip(-4 * (values - center) / width, -60, 60)
        return np.asarray(1 / (1 + np.exp(exponent)), np.float64)
    if function == "LINEAR_EXACT":
        return linear(values, center - width / 2, center + width / 2)
    # Width 1 is a threshold at center − 0.5.
    return linear(values, center - width / 2, center + width / 2 - 1 + 1e-9)


def voi_table(values: Float64Array, item: DicomDataset) -> Float64Array:
    """Modality values to 0…1 by a VOI LUT (DICOM PS3.3 C.11.2.1.1)."""
    with explained("its VOI LUT is unusable"):
        count, first, bits = (int(number) for number in item.LUTDescriptor)
        data = item.LUTData
        count = count or 1 << 16
        if isinstance(data, bytes):
            table = np.frombuffer(data, "<u2" if len(data) >= 2 * count else "u1")[:count]
        else:
            table = np.asarray(data)[:count]
        position = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.intp)
        return linear(table[position].astype(np.float64), 0.0, (1 << bits) - 1.0)


def quantise(unit: Float64Array) -> UInt8Array:
    """0…1 to 0…255."""
    return np.asarray(np.rint(255 * unit), np.uint8)


def look_up(pixels: npt.NDArray[Any], table: UInt8Array) -> UInt8Array:
    """``table[pixels]`` for uint8 or uint16 ``pixels``, in blocks (a whole gather is slower)."""
    result = np.empty(pixels.shape, np.uint8)
    for row in range(0, len(pixels), _ROWS):
        part = slice(row, row + _ROWS)
        np.take(table, pixels[part], out=result[part], mode="clip")
    return result


@dataclass(frozen=True)
class Line:
    """A linear window in stored values: ``low`` to black, ``high`` to white, or ``inverted``."""

    low: float
    high: float
    inverted: bool = False


def shrink(pixels: npt.NDArray[Any], line: Line, size: int) -> UInt8Array | None:
    """Shrink to a square; None where that is not exact enough (small image, narrow window).

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
