"""Differentiable augmentation: its contract, DiffAugment and ADA.

An augmentation is a frozen part of a row. What changes while training (ADA's probability and
counters) lives in a *state*: a dict of tensors on the device that the trainer owns, passes in and
saves in checkpoints. Stateless augmentations have an empty state. Nothing may force a host
round trip (``.item()``, branching on tensor values) unless there is no other way.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Annotated, NamedTuple, TypeAlias

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from ensgan.errors import InputError
from ensgan.zoo.parts import Part, register_part
from ensgan.zoo.warp import affine_matrices, warp

AugmentState: TypeAlias = dict[str, Tensor]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Augmentation(Part, ABC):
    """Random, differentiable image transformations, applied to real and generated images alike.

    Raises:
        InputError: a number is beyond its limits.
    """

    def __post_init__(self) -> None:
        if found := self.broken_rules():
            raise InputError("; ".join(found))

    def initial_state(self, device: torch.device) -> AugmentState:
        """The state before the first step (float32 or int64 tensors); empty by default."""
        return {}

    @abstractmethod
    def apply(self, images: Tensor, state: AugmentState, generator: torch.Generator) -> Tensor:
        """Augment a batch.

        Args:
            images: float32 [B, C, H, W], around [-1, 1]; gradients flow through to them.
            state: as :meth:`initial_state` made it; not changed here.
            generator: source of every random draw, on the device of ``images``.

        Returns:
            float32 [B, C, H, W].
        """

    def observe(self, real_logits: Tensor, state: AugmentState) -> None:
        """Takes the discriminator's adversarial outputs [B] on real images, after every forward
        on reals in a discriminator update (lazy R1's too); changes ``state`` in place.
        """

    def adjusts(self, step: int) -> bool:
        """Whether :meth:`adjust` does anything in the zero-based step."""
        return False

    def adjust(self, step: int, state: AugmentState) -> None:
        """Called after every discriminator update with the zero-based step; changes ``state``
        in place when the controller is due.
        """

    def metrics(self, state: AugmentState) -> dict[str, float]:
        """Numbers worth recording at a snapshot (a host round trip is fine here)."""
        return {}


@register_part
class NoAugment(Augmentation):
    """Leaves the images as they are."""

    def apply(self, images: Tensor, state: AugmentState, generator: torch.Generator) -> Tensor:
        """The images themselves."""
        return images


@register_part
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


@register_part
class ADA(Augmentation):
    """Flip, shift, scale, rotate, stretch; each with the current probability p per sample.

    Attributes:
        target: wanted mean sign of the discriminator's output on real images.
        kimg: thousands of real images in which p moves from 0 to 1 at most.
        interval: steps between adjustments of p. In such a step p is adjusted after every
            discriminator update, over the images seen since the adjustment before.
        start: p before the first adjustment.
        integer_shift: largest whole-pixel shift as a share of the size (published: 0.125).
        scale: standard deviation of log₂ of the scale (published: 0.2).
        rotation: largest rotation in units of π (published: 1).
        stretch: standard deviation of log₂ of the anisotropic scale (published: 0.2).
        fractional_shift: standard deviation of the shift as a share of the size
            (published: 0.125).
    """

    target: Annotated[float, Field(ge=-1, le=1)] = 0.6
    kimg: PositiveFloat = 500.0
    interval: PositiveInt = 4
    start: Share = 0.0
    integer_shift: Share = 0.05
    scale: Share = 0.05
    rotation: Share = 0.0083
    stretch: Share = 0.05
    fractional_shift: Share = 0.05

    def initial_state(self, device: torch.device) -> AugmentState:
        """p, and the signs and number of real images since the last adjustment, float32 []."""
        return {
            "probability": torch.tensor(self.start, device=device),
            "sign_sum": torch.zeros((), device=device),
            "images": torch.zeros((), device=device),
        }

    def apply(self, images: Tensor, state: AugmentState, generator: torch.Generator) -> Tensor:
        """Augment images float32 [B,C,H,W] with the probability in ``state``."""
        batch, _, height, width = images.shape
        return warp(images, self.matrices(batch, height, width, state["probability"], generator))

    def matrices(
        self, batch: int, height: int, width: int, probability: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw the transformation of every sample: output to input positions, float32 [B,2,3].

        The seven sub-transforms happen independently, each with ``probability`` (rotations with
        1−√(1−p), as there are two of them).
        """
        device = probability.device
        # One draw for everything: unused numbers keep the positions of the others, and with them
        # the images of a seed.
        uniform = torch.rand(4, 8, batch, generator=generator, device=device).flatten(0, 1)
        normal = torch.randn(4, batch, generator=generator, device=device)
        plan = _plan(self, height, width, device)
        picked = uniform.index_select(0, plan.picked)
        even = torch.addcmul(plan.offsets, picked[9:], plan.factors)
        even[:3].round_()
        scaled = normal * plan.deviations
        table = torch.cat([even[:4], scaled[:1], even[4:], scaled[1:]])
        chances = 1 - (1 - probability) ** plan.powers
        return affine_matrices(table * (picked[:9] < chances))

    def observe(self, real_logits: Tensor, state: AugmentState) -> None:
        """Count the signs of the outputs on real images [B]."""
        with torch.no_grad():
            state["sign_sum"].add_(real_logits.sign().sum())
            state["images"].add_(real_logits.numel())

    def adjusts(self, step: int) -> bool:
        """Whether the step is a multiple of ``interval``."""
        return step % self.interval == 0

    def adjust(self, step: int, state: AugmentState) -> None:
        """p ← clip(p + sign(r − target)·N/(1000·kimg), 0, 1) with r the mean sign of N images."""
        if not self.adjusts(step):
            return
        seen = state["images"]
        mean_sign = state["sign_sum"] / seen.clamp(min=1)
        direction = (mean_sign - self.target).sign()
        state["probability"].add_(direction * seen / (1000 * self.kimg)).clamp_(0, 1)
        state["sign_sum"].zero_()
        seen.zero_()

    def metrics(self, state: AugmentState) -> dict[str, float]:
        """The current probability."""
        return {"ada_probability": float(state["probability"])}


class _Plan(NamedTuple):
    """How the draws become the rows of :data:`MOVES`.

    Attributes:
        picked: rows of the uniform draws: nine that decide, then five that become values.
        offsets, factors: of those five, [5, 1]; the first three are rounded.
        deviations: of the four normal draws, [4, 1].
        powers: [9, 1], ½ for rotations, else 1: one of two happens with the chance of the others.
    """

    picked: Tensor
    offsets: Tensor
    factors: Tensor
    deviations: Tensor
    powers: Tensor


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _plan(part: ADA, height: int, width: int, device: torch.device) -> _Plan:
    turn = math.pi * part.rotation
    reach = (-part.integer_shift * width, -part.integer_shift * height)

    def column(*values: float) -> Tensor:
        return torch.tensor(values, device=device)[:, None]

    return _Plan(
        # Of each group of eight: chances, uniform draws, along x, along y.
        torch.tensor([0, 1, 1, 3, 2, 5, 4, 6, 6, 8, 16, 24, 9, 10], device=device),
        column(-0.5, -reach[0], -reach[1], -turn, -turn),
        column(2, 2 * reach[0], 2 * reach[1], 2 * turn, 2 * turn),
        column(
            -part.scale,
            part.stretch,
            -part.fractional_shift * width,
            -part.fractional_shift * height,
        ),
        column(1, 1, 1, 0.5, 1, 0.5, 1, 1, 1),
    )
