"""Grids of images as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ensgan.errors import InputError
from ensgan.types import UInt8Array

FONT_SIZE = 13
GAP = 2
MARGIN = 4
"""Pixels around a label."""


def image_grid(rows: Sequence[tuple[str, UInt8Array]], *, zoom: int = 2) -> bytes:
    """Draw labelled rows of images.

    Args:
        rows: label and images, uint8 [n,H,W] or [n,H,W,C]; all images of one size.
        zoom: integer enlargement, nearest neighbour.

    Returns:
        The PNG file's content.

    Raises:
        InputError: no row has an image.
    """
    columns = max((len(images) for _, images in rows), default=0)
    if columns == 0:
        raise InputError("an image grid needs at least one image")
    size = rows[0][1].shape[1] * zoom
    cell = size + GAP
    font = ImageFont.load_default(FONT_SIZE)
    left = max(ceil(font.getlength(label)) for label, _ in rows) + 2 * MARGIN
    canvas = Image.new("RGB", (left + columns * cell, len(rows) * cell + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for y, (label, images) in enumerate(rows):
        middle = (MARGIN, y * cell + GAP + size // 2)
        draw.text(middle, label, fill="black", font=font, anchor="lm")
        for x, image in enumerate(images):
            tile = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
            tile = tile.resize((size, size), Image.Resampling.NEAREST)
            canvas.paste(tile, (left + x * cell, y * cell + GAP))
    stream = io.BytesIO()
    canvas.save(stream, format="PNG")
    return stream.getvalue()
