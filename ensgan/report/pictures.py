"""Pictures of images: grids of them, and how much members overlap."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ensgan.errors import InputError
from ensgan.report.figures import STAR, overlap_figure, png
from ensgan.types import FrontPoint, PoolScores, UInt8Array

FONT_SIZE = 13
GAP = 2
TILE = 128
"""Least width of an image in pixels: what can be judged by eye."""
MARGIN = 4
"""Pixels around a label."""


def image_grid(rows: Sequence[tuple[str, UInt8Array]]) -> bytes:
    """Draw rows of images below their labels, enlarged to at least TILE pixels each.

    Args:
        rows: label and images, uint8 [n,H,W] or [n,H,W,C]; all images of one size.

    Returns:
        The PNG file's content.

    Raises:
        InputError: no row has an image.
    """
    columns = max((len(images) for _, images in rows), default=0)
    if columns == 0:
        raise InputError("an image grid needs at least one image")
    side = rows[0][1].shape[1]
    size = side * max(1, ceil(TILE / side))
    cell = size + GAP
    font = ImageFont.load_default(FONT_SIZE)
    above = FONT_SIZE + 2 * MARGIN
    width = max(columns * cell, *(ceil(font.getlength(label)) + MARGIN for label, _ in rows))
    # Transparent, with a label that can be read on white and on black pages.
    grey = all(images.ndim == 3 for _, images in rows)
    mode, ink = ("LA", (128, 255)) if grey else ("RGBA", (128, 128, 128, 255))
    canvas = Image.new(mode, (width, len(rows) * (above + cell)))
    draw = ImageDraw.Draw(canvas)
    for y, (label, images) in enumerate(rows):
        top = y * (above + cell) + above
        draw.text((0, top - above // 2), label, fill=ink, font=font, anchor="lm")
        for x, image in enumerate(images):
            tile = Image.fromarray(np.ascontiguousarray(image)).convert(mode)
            tile = tile.resize((size, size), Image.Resampling.NEAREST)
            canvas.paste(tile, (x * cell, top))
    stream = io.BytesIO()
    canvas.save(stream, format="PNG")
    return stream.getvalue()


def overlap_png(scores: PoolScores, selected: FrontPoint | None = None) -> bytes:
    """Heat map of the overlap d(S_g, S_h) of every pair as a PNG; selected members are starred.

    Args:
        scores: of M members in pool order, which is the order of rows and columns.
    """
    chosen = selected.members if selected is not None else ()
    figure = overlap_figure(scores, [f"{STAR}{n}" if n in chosen else n for n in scores.names])
    figure.axes[0].set_title(
        "Overlap of members (lower is better; ★ selected)", fontsize=9 if len(scores) < 30 else 12
    )
    return png(figure, 110)
