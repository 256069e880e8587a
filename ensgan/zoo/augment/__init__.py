"""The contract of differentiable augmentation.

An augmentation is a frozen part of a row. What changes while training (ADA's probability and
counters) lives in a *state*: a dict of tensors on the device that the trainer owns, passes in and
saves in checkpoints. Stateless augmentations have an empty state. Nothing may force a host
round trip (``.item()``, branching on tensor values) unless there is no other way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from ensgan.errors import InputError
from ensgan.zoo.parts import Part, register_part

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
@dataclass(frozen=True)
class NoAugment(Augmentation):
    """Leaves the images as they are."""

    def apply(self, images: Tensor, state: AugmentState, generator: torch.Generator) -> Tensor:
        """The images themselves."""
        return images
