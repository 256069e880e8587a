"""How results look in a notebook: small HTML without scripts, made only when it is displayed."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

MOST_ROWS = 30
"""Rows of a table that a notebook shows; the rest is counted in a last line."""
MOST_IMAGES = 64
TILE = 64
"""Least width of a displayed image in pixels; smaller ones are enlarged by whole factors."""


def pil_images(images: npt.NDArray[np.uint8]) -> list[Image.Image]:
    """Stored images, uint8 [n,H,W] or [n,H,W,C], one by one as Pillow images."""
    from PIL import Image

    return [Image.fromarray(np.ascontiguousarray(image)) for image in images]


def image_sheet(images: npt.NDArray[np.uint8], columns: int = 16) -> Image.Image:
    """The first images, uint8 [n,H,W] or [n,H,W,C], row by row on one sheet."""
    from PIL import Image

    tiles = pil_images(images[:MOST_IMAGES])
    columns = max(1, min(columns, len(tiles)))
    width, height = tiles[0].size if tiles else (1, 1)
    zoom = max(1, math.ceil(TILE / width))
    sheet = Image.new("RGB", (columns * width, max(1, math.ceil(len(tiles) / columns)) * height))
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % columns * width, i // columns * height))
    return sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST)


def png_base64(picture: Image.Image) -> str:
    """A picture as a PNG file in base64."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()


def picture_html(picture: Image.Image, alt: str) -> str:
    """A picture inside the page itself."""
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{png_base64(picture)}">'


def table_html(columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """A table; numbers with four digits, every text escaped."""
    all_rows = list(rows)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(value))}</td>" for value in row) + "</tr>"
        for row in all_rows[:MOST_ROWS]
    )
    more = len(all_rows) - MOST_ROWS
    if more > 0:
        body += f'<tr><td colspan="{len(columns)}">and {more} more</td></tr>'
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def scatter_svg(x: Sequence[float], y: Sequence[float], x_label: str, y_label: str) -> str:
    """Points joined by a line, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(x, y, "o-", markersize=4, linewidth=1)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    return stream.getvalue()[stream.getvalue().index("<svg") :]


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float | np.floating) else str(value)
