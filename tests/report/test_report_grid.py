"""Grids of images."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image, ImageFont

from ensgan.errors import InputError
from ensgan.report.content import TILE, image_grid


def grid(label: str) -> np.ndarray:
    images = np.zeros((3, 8, 8), np.uint8)
    return np.asarray(Image.open(io.BytesIO(image_grid([(label, images)]))))


def test_no_font_of_the_system_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers often have none."""
    truetype = ImageFont.truetype

    def only_own(font: object, *arguments: object, **options: object) -> object:
        assert not isinstance(font, (str, Path)), f"looks for {font} on this machine"
        return truetype(font, *arguments, **options)

    monkeypatch.setattr(ImageFont, "truetype", only_own)
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda *a, **k: [])
    assert grid("SNGAN@10").any()
    fonts = Path(matplotlib.get_data_path())
    names = {font_manager.findfont(font_manager.FontProperties(size=size)) for size in (5.5, 10)}
    assert all(Path(name).is_relative_to(fonts) for name in names), names


def test_long_labels_are_not_cut() -> None:
    """No letter is overdrawn by the images: between both lies an empty line."""
    for label in ("5", "StyleGAN2-DiffAug@100000"):
        opaque = grid(label)[..., 1] > 0
        first_tile = opaque.shape[0] - TILE - 2
        assert not opaque[first_tile - 2 : first_tile].any()
        assert opaque[: first_tile - 2].any(), "the label is there"
        assert opaque[first_tile : first_tile + TILE, :TILE].all()
    assert grid("StyleGAN2-DiffAug@100000" * 4).shape[1] > grid("5").shape[1]
    assert not grid("StyleGAN2-DiffAug@100000" * 4)[:, -1, 1].any()


def test_a_grid_needs_images() -> None:
    with pytest.raises(InputError, match="at least one image"):
        image_grid([("empty", np.zeros((0, 8, 8), np.uint8))])
