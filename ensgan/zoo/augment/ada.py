"""Adaptive discriminator augmentation (Karras et al. 2020b), geometric transformations only.

Whether a sample is transformed is decided with a probability that a controller raises while the
discriminator is too sure of the real images and lowers otherwise. All operations, the controller
included, stay on the device of the images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ensgan.errors import InputError
from ensgan.zoo.augment.base import Augmentation, AugmentState
from ensgan.zoo.augment.warp import affine_matrices, warp
from ensgan.zoo.parts import register_part


@register_part
@dataclass(frozen=True)
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

    target: float = 0.6
    kimg: float = 500.0
    interval: int = 4
    start: float = 0.0
    integer_shift: float = 0.05
    scale: float = 0.05
    rotation: float = 0.0083
    stretch: float = 0.05
    fractional_shift: float = 0.05

    def __post_init__(self) -> None:
        limits = {
            "target": (-1, 1),
            "start": (0, 1),
            "integer_shift": (0, 1),
            "scale": (0, 1),
            "rotation": (0, 1),
            "stretch": (0, 1),
            "fractional_shift": (0, 1),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"ADA: {name} must lie between {low} and {high}, not {value}")
        if self.kimg <= 0 or self.interval < 1:
            raise InputError(
                f"ADA: kimg must be above 0 and interval at least 1, "
                f"not {self.kimg} and {self.interval}"
            )

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
        probability = state["probability"].to(images.device)
        return warp(images, self.matrices(batch, height, width, probability, generator))

    def matrices(
        self, batch: int, height: int, width: int, probability: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw the transformation of every sample: output to input positions, float32 [B,3,3].

        The eight sub-transforms happen independently, each with ``probability`` (rotations with
        1−√(1−p), as there are two of them).
        """
        device = probability.device
        chance, uniform, along_x, along_y = torch.rand(
            4, 8, batch, generator=generator, device=device
        ).unbind()
        normal = torch.randn(4, batch, generator=generator, device=device)
        rotating = 1 - (1 - probability).sqrt()

        def perhaps(index: int, value: Tensor, neutral: float, p: Tensor = probability) -> Tensor:
            return torch.where(chance[index] < p, value, torch.full_like(value, neutral))

        def whole(draw: Tensor, size: int) -> Tensor:
            return ((2 * draw - 1) * self.integer_shift * size).round()

        def angle(draw: Tensor) -> Tensor:
            return (2 * draw - 1) * (math.pi * self.rotation)

        return affine_matrices(
            flip=perhaps(0, (uniform[0] * 2).floor(), 0.0),
            int_shift_x=perhaps(1, whole(along_x[0], width), 0.0),
            int_shift_y=perhaps(1, whole(along_y[0], height), 0.0),
            iso_scale=perhaps(2, torch.exp2(normal[0] * self.scale), 1.0),
            pre_rotation_rad=perhaps(3, angle(uniform[1]), 0.0, rotating),
            aniso_scale=perhaps(4, torch.exp2(normal[1] * self.stretch), 1.0),
            post_rotation_rad=perhaps(5, angle(uniform[2]), 0.0, rotating),
            frac_shift_x=perhaps(6, normal[2] * (self.fractional_shift * width), 0.0),
            frac_shift_y=perhaps(6, normal[3] * (self.fractional_shift * height), 0.0),
        )

    def observe(self, real_logits: Tensor, state: AugmentState) -> None:
        """Count the signs of the outputs on real images [B]."""
        with torch.no_grad():
            state["sign_sum"].add_(real_logits.sign().sum())
            state["images"].add_(real_logits.numel())

    def adjust(self, step: int, state: AugmentState) -> None:
        """p ← clip(p + sign(r − target)·N/(1000·kimg), 0, 1) with r the mean sign of N images."""
        if step % self.interval:
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
