"""Differentiable augmentation (Zhao et al. 2020): colour, translation, cutout, always on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ensgan.zoo.augment import Augmentation, AugmentState, Share
from ensgan.zoo.parts import register_part


def jitter_brightness(images: Tensor, draw: Tensor) -> Tensor:
    """x + (u−½) with one draw u in [0,1) per sample; images [B,C,H,W], draw [B]."""
    return images + (_per_sample(draw) - 0.5)


def jitter_saturation(images: Tensor, draw: Tensor) -> Tensor:
    """(x−m)·2u + m, m the mean over channels of each pixel: nothing happens to grey images."""
    mean = images.mean(dim=1, keepdim=True)
    return (images - mean) * (2 * _per_sample(draw)) + mean


def jitter_contrast(images: Tensor, draw: Tensor) -> Tensor:
    """(x−m)·(u+½) + m, m the mean of the whole image."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (_per_sample(draw) + 0.5) + mean


def translate(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """y[r,c] = x[r+rows, c+columns], zero outside.

    A shift is a product with a 0/1 matrix on either side: differentiable any number of times and
    deterministic on every device.

    Args:
        images: [B,C,H,W].
        rows: int64 [B].
        columns: int64 [B].
    """
    height, width = images.shape[2:]
    down = _shift_matrices(rows, height).to(images.dtype)
    right = _shift_matrices(columns, width).to(images.dtype)
    return down[:, None] @ images @ right[:, None].transpose(2, 3)


def cut_out(
    images: Tensor, rows: Tensor, columns: Tensor, hole_height: int, hole_width: int
) -> Tensor:
    """Set a rectangle to 0 (mid-grey), as much of it as lies inside the image.

    Args:
        images: [B,C,H,W].
        rows: centre row, int64 [B]; the hole starts hole_height // 2 rows above.
        columns: centre column, int64 [B], likewise.
        hole_height: rows of the hole.
        hole_width: columns of the hole.
    """
    height, width = images.shape[2:]
    in_rows = _inside(rows, hole_height, height)
    in_columns = _inside(columns, hole_width, width)
    hole = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return images * (~hole).to(images.dtype)


@register_part
@dataclass(frozen=True)
class DiffAugment(Augmentation):
    """Brightness, saturation, contrast, translation, cutout, each drawn per sample.

    Attributes:
        translation: largest shift as a share of the image size (±2 pixels at 32; Zhao et al. use
            0.125).
        cutout: side of the hole as a share of the image size.
    """

    translation: Share = 0.05
    cutout: Share = 0.5

    def apply(self, images: Tensor, state: AugmentState, generator: torch.Generator) -> Tensor:
        """Augment images float32 [B,C,H,W]; there is no state."""
        batch, height, width = len(images), *images.shape[2:]
        device = images.device
        u = torch.rand(3, batch, generator=generator, device=device, dtype=images.dtype)
        images = jitter_brightness(images, u[0])
        images = jitter_saturation(images, u[1])
        images = jitter_contrast(images, u[2])

        def whole(low: int, high: int) -> Tensor:
            return torch.randint(low, high + 1, (batch,), generator=generator, device=device)

        limits = [_pixels(self.translation, side) for side in (height, width)]
        images = translate(images, *(whole(-limit, limit) for limit in limits))
        holes = [_pixels(self.cutout, side) for side in (height, width)]
        centres = [
            whole(0, side - hole % 2) for side, hole in zip((height, width), holes, strict=True)
        ]
        return cut_out(images, centres[0], centres[1], holes[0], holes[1])


def _per_sample(draw: Tensor) -> Tensor:
    return draw[:, None, None, None]


def _pixels(share: float, size: int) -> int:
    return int(share * size + 0.5)


def _shift_matrices(shifts: Tensor, size: int) -> Tensor:
    """Bool [B,size,size] with [b,r,s] true where s = r + shifts[b]."""
    index = torch.arange(size, device=shifts.device)
    return index[None, None, :] == index[None, :, None] + shifts[:, None, None]


def _inside(centres: Tensor, hole: int, size: int) -> Tensor:
    """Bool [B,size]: positions of a hole around each centre.

    A clipped position falls on the border, as published: a hole that just misses the image still
    blanks the border row or column.
    """
    first = (centres - hole // 2)[:, None]
    index = torch.arange(size, device=centres.device)
    nearest_start = first.clamp(0, size - 1)
    nearest_end = (first + hole - 1).clamp(0, size - 1)
    covered = (index >= nearest_start) & (index <= nearest_end)
    return covered if hole else torch.zeros_like(covered)
