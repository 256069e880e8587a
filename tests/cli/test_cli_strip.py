"""Images in a terminal."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from ensgan.cli.sweep import can_show, image_strip


def test_images_become_half_blocks_of_their_colours() -> None:
    image = np.zeros((32, 32), np.uint8)
    image[16:] = 200
    lines = image_strip([image, image], 80)
    assert len(lines) == 9 and all(line.plain == "▀" * 18 + " " + "▀" * 18 for line in lines)
    upper, lower = lines[0].spans[0].style, lines[-1].spans[0].style
    assert str(upper) == "rgb(0,0,0) on rgb(0,0,0)"
    assert str(lower) == "rgb(200,200,200) on rgb(200,200,200)"
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[..., 2] = 255
    assert str(image_strip([colour], 80)[0].spans[0].style) == "rgb(0,0,255) on rgb(0,0,255)"
    assert image_strip([image], 40) == []  # too narrow for anything to be recognised


def test_only_terminals_that_can_are_shown_images() -> None:
    def console(encoding: str, **options: object) -> Console:
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        return Console(file=stream, **options)  # type: ignore[arg-type]

    able = {"force_terminal": True, "color_system": "truecolor"}
    assert can_show(console("utf-8", **able))
    assert not can_show(console("ascii", **able))
    assert not can_show(console("utf-8", **{**able, "color_system": "standard"}))
    assert not can_show(console("utf-8"))
