"""Adaptive discriminator augmentation (Karras et al. 2020b), geometric transformations only.

Whether a sample is transformed is decided with a probability that a controller raises while the
discriminator is too sure of the real images and lowers otherwise. All operations, the controller
included, stay on the device of the images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, NamedTuple

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from ensgan.zoo.augment import Augmentation, AugmentState, Share
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
