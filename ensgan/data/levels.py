"""Stored pixel values of any depth to 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ensgan.types import Float64Array, UInt8Array

PERCENTILES = (2.0, 98.0)
"""The window of images that bring none of their own."""

WINDOWS = ("auto", "percentile", "full")
"""``auto``: the file's own window, else percentiles for more than 8 bits; ``percentile``: always
the 2–98 percentile window; ``full``: the whole stored range."""

_ROWS = 64  # rows looked up at once: their index block stays in the cache
_SAMPLED = 256  # pixels a side that percentiles are taken from


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
    return quantise(linear(pixels.astype(np.float64), low, high))


def _range(pixels: npt.NDArray[Any], window: str) -> tuple[float, float]:
    is_unit = pixels.dtype.kind == "f" and pixels.min() >= 0 and pixels.max() <= 1
    if window != "percentile" and is_unit:
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
