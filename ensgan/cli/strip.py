"""A few images in a terminal: two pixels a character, upper half and lower half."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from rich.console import Console
from rich.style import Style
from rich.text import Text

from ensgan.types import UInt8Array

COLUMNS = 4
"""Images beside one another."""
_SIDES = (12, 32)
"""Least and most pixels of a side: smaller is nothing, larger needs no terminal."""


def can_show(console: Console) -> bool:
    """Whether a terminal has the colours and the half block, and somebody looks at it."""
    encoding = (console.encoding or "").lower()
    return (
        console.is_terminal
        and console.color_system in ("256", "truecolor")
        and encoding.startswith("utf")
    )


def image_strip(images: Sequence[UInt8Array], width: int) -> list[Text]:
    """Images beside one another as lines of half blocks.

    Args:
        images: uint8 [H,W] or [H,W,3], at most :data:`COLUMNS` are shown.
        width: columns of the terminal.
    """
    side = min(_SIDES[1], (width - COLUMNS + 1) // COLUMNS)
    if side < _SIDES[0]:
        return []
    side -= side % 2
    small = [_resized(image, side) for image in images[:COLUMNS]]
    lines = []
    for row in range(0, side, 2):
        line = Text(no_wrap=True, end="")
        for place, image in enumerate(small):
            line.append(" " if place else "")
            for upper, lower in zip(image[row], image[row + 1], strict=True):
                line.append("▀", Style(color=_colour(upper), bgcolor=_colour(lower)))
        lines.append(line)
    return lines


def _resized(image: UInt8Array, side: int) -> UInt8Array:
    """uint8 [side,side,3], each pixel the mean of what it covers."""
    rgb = Image.fromarray(image).convert("RGB").resize((side, side), Image.Resampling.BOX)
    return np.asarray(rgb, np.uint8)


def _colour(pixel: UInt8Array) -> str:
    return "rgb({},{},{})".format(*map(int, pixel))
