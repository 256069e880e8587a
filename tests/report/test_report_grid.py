"""Grids of images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ensgan.errors import InputError
from ensgan.report.pictures import TILE, image_grid


def grid(label: str) -> np.ndarray:
    images = np.zeros((3, 8, 8), np.uint8)
    return np.asarray(Image.open(io.BytesIO(image_grid([(label, images)]))))


def test_long_labels_are_not_cut() -> None:
    """No letter is overdrawn by the images: between both lies an empty column."""
    for label in ("5", "StyleGAN2-DiffAug@100000"):
        picture = grid(label)
        opaque = picture[..., 1] > 0
        first_tile = picture.shape[1] - 3 * (TILE + 2)
        assert not opaque[:, first_tile - 3 : first_tile].any()
        assert opaque[:, : first_tile - 3].any(), "the label is there"
        assert opaque[8, first_tile : first_tile + TILE].all()
    assert grid("StyleGAN2-DiffAug@100000").shape[1] > grid("5").shape[1]


def test_a_grid_needs_images() -> None:
    with pytest.raises(InputError, match="at least one image"):
        image_grid([("empty", np.zeros((0, 8, 8), np.uint8))])
