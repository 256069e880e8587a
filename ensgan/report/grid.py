"""Grids of images as PNG."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from ensgan.errors import InputError
from ensgan.types import UInt8Array

MARGIN = 4
GAP = 2


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
    margin = _widest(label for label, _ in rows)
    canvas = Image.new("RGB", (margin + columns * cell, len(rows) * cell + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for y, (label, images) in enumerate(rows):
        draw.text((MARGIN, y * cell + size // 2 - 5), label, fill="black")
        for x, image in enumerate(images):
            tile = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
            tile = tile.resize((size, size), Image.Resampling.NEAREST)
            canvas.paste(tile, (margin + x * cell, y * cell + GAP))
    stream = io.BytesIO()
    canvas.save(stream, format="PNG")
    return stream.getvalue()


def _widest(labels: Iterable[str]) -> int:
    """Pixels that the longest label and the margins beside it take."""
    ruler = ImageDraw.Draw(Image.new("L", (1, 1)))
    return int(max(ruler.textlength(label) for label in labels)) + 2 * MARGIN
