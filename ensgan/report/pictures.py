"""The pictures and the page that a sweep records: image grids, heat maps, front, report."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ensgan.errors import InputError
from ensgan.report.figures import front_png, new_figure, overlap_figure, png
from ensgan.store import RunStore
from ensgan.types import Front, FrontPoint, PoolScores, UInt8Array

FONT_SIZE = 13
GAP = 2
TILE = 128
"""Least width of an image in pixels: what can be judged by eye."""
MARGIN = 4
"""Pixels around a label."""


class Pictures:
    """Implements :class:`ensgan.recording.views.Illustrator`.

    The plotting libraries are loaded only where something is drawn.
    """

    def grid(self, title: str, rows: Sequence[tuple[str, UInt8Array]]) -> Mapping[str, bytes]:
        """One PNG named after the title."""
        return {f"{title}.png": image_grid(rows)}

    def front(self, front: Front, selected: FrontPoint | None) -> Mapping[str, bytes]:
        """The front as an interactive page and as a static picture."""
        from ensgan.report.page import front_html

        return {
            "front.html": front_html(front, selected).encode(),
            "front.png": front_png(front, selected),
        }

    def pool(
        self, scores: PoolScores, front: Front, selected: FrontPoint | None
    ) -> Mapping[str, bytes]:
        """Heat maps: how the members overlap, and which of them the front uses."""
        return {
            "overlap.png": overlap_png(scores, selected),
            "membership.png": membership_png(front),
        }

    def report(self, store: RunStore, run_id: str) -> bytes:
        """The page about a sweep, without a real image."""
        from ensgan.report.content import collect
        from ensgan.report.page import render

        return render(collect(store, run_id)).encode()


def image_grid(rows: Sequence[tuple[str, UInt8Array]], *, zoom: int | None = None) -> bytes:
    """Draw labelled rows of images.

    Args:
        rows: label and images, uint8 [n,H,W] or [n,H,W,C]; all images of one size.
        zoom: integer enlargement, nearest neighbour; None: until an image is TILE pixels wide.

    Returns:
        The PNG file's content.

    Raises:
        InputError: no row has an image.
    """
    columns = max((len(images) for _, images in rows), default=0)
    if columns == 0:
        raise InputError("an image grid needs at least one image")
    side = rows[0][1].shape[1]
    size = side * (zoom or max(1, ceil(TILE / side)))
    cell = size + GAP
    font = ImageFont.load_default(FONT_SIZE)
    left = max(ceil(font.getlength(label)) for label, _ in rows) + 2 * MARGIN
    # Transparent, with a label that can be read on white and on black pages.
    grey = all(images.ndim == 3 for _, images in rows)
    mode, ink = ("LA", (128, 255)) if grey else ("RGBA", (128, 128, 128, 255))
    canvas = Image.new(mode, (left + columns * cell, len(rows) * cell + GAP))
    draw = ImageDraw.Draw(canvas)
    for y, (label, images) in enumerate(rows):
        middle = (MARGIN, y * cell + GAP + size // 2)
        draw.text(middle, label, fill=ink, font=font, anchor="lm")
        for x, image in enumerate(images):
            tile = Image.fromarray(np.ascontiguousarray(image)).convert(mode)
            tile = tile.resize((size, size), Image.Resampling.NEAREST)
            canvas.paste(tile, (left + x * cell, y * cell + GAP))
    stream = io.BytesIO()
    canvas.save(stream, format="PNG")
    return stream.getvalue()


def overlap_png(scores: PoolScores, selected: FrontPoint | None = None) -> bytes:
    """Heat map of the overlap d(S_g, S_h) of every pair as a PNG; selected members are starred.

    Args:
        scores: of M members in pool order, which is the order of rows and columns.
    """
    chosen = selected.members if selected is not None else ()
    figure = overlap_figure(scores, [f"★ {n}" if n in chosen else n for n in scores.names])
    figure.axes[0].set_title(
        "Overlap of members (lower is better; ★ selected)", fontsize=9 if len(scores) < 30 else 12
    )
    return png(figure, 110)


def membership_png(front: Front, most: int = 40) -> bytes:
    """Heat map as a PNG: which member (row, the most frequent first) is in which front point.

    Columns run from the smallest first objective to the largest. At most ``most`` members are
    shown; the number behind a name is its share of the front's points.
    """
    points = sorted(front, key=lambda point: front.values(point)[0])
    counts = Counter(name for point in points for name in point.members)
    names = sorted(counts, key=lambda name: (-counts[name], name))[:most]
    present = [[name in point.members for point in points] for name in names]
    figure, axes = new_figure(3 + 0.16 * max(len(points), 20), 1.2 + 0.2 * max(len(names), 4))
    axes.imshow(present or [[False]], aspect="auto", cmap="Blues", vmin=0, vmax=1)
    labels = [f"{name}  {counts[name] / len(points):.0%}" for name in names]
    axes.set_yticks(range(len(names)), labels, fontsize=8, parse_math=False)
    left_out = len(counts) - len(names)
    axes.set(
        xlabel=f"front points, by rising {front.axes[0].name}",
        title=f"Members on the front{f' ({left_out} rarer ones left out)' if left_out else ''}",
    )
    return png(figure)
