"""Operations on the meta device, remembered by the shapes of what they are given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ensgan import zoo
from ensgan.types import ImageShape
from ensgan.zoo.backbones import Player
from ensgan.zoo.build import build_generator
from ensgan.zoo.footprint import Remembered


def gradients(name: str) -> list[Any]:
    """Of a generator's images and weights: sizes, layout and type."""
    with torch.device("meta"):
        generator = build_generator(zoo.get(name).scaled(1 / 8), ImageShape(1, 32), 2, 0)
        noise = [torch.empty(4, 1, size, size) for size in generator.noise_sizes]
        generator.prepare(Player.GENERATOR)
        latents, labels = torch.empty(4, generator.latent_dim), torch.zeros(4, dtype=torch.int64)
        images = generator(latents, labels, None, noise)
        images.sum().backward()
    made = [images, *(weight.grad for weight in generator.parameters())]
    return [(of.shape, of.stride(), of.dtype) for of in made if isinstance(of, Tensor)]


@pytest.mark.parametrize("name", ["SNGAN", "BigGAN", "StyleGAN2"])
def test_what_is_remembered_is_what_torch_makes(name: str) -> None:
    plain = gradients(name)
    for _ in range(2):
        with Remembered():
            assert gradients(name) == plain


def test_what_differs_is_not_taken_for_the_same() -> None:
    whole, part = torch.ones(2, 3, dtype=torch.int64), torch.ones(3)
    with Remembered(), torch.device("meta"):
        on_meta = torch.ones(2, 3, dtype=torch.int64)
        assert (on_meta * 2).dtype == torch.int64
        assert (on_meta * 2.0).dtype == torch.float32
        assert (on_meta * torch.ones(3)).shape == (2, 3)
        assert on_meta.mul_(3) is on_meta
        assert (whole * part).add_(1).tolist() == [[2.0] * 3] * 2, "others' tensors are computed"
        assert (whole * 2).sum().item() == 12
