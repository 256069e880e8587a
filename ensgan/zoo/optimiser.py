"""How a row is optimised and how its generator's weights are averaged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from ensgan.zoo.parts import Part, register_part

Decay: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


@register_part
@dataclass(frozen=True)
class Adam(Part):
    """Adam without weight decay."""

    learning_rate: PositiveFloat = 2e-4
    betas: tuple[Decay, Decay] = (0.5, 0.999)
    eps: PositiveFloat = 1e-6


@register_part
@dataclass(frozen=True)
class Optimiser(Part):
    """Rates, batch and order of updates.

    Attributes:
        generator, discriminator: their Adam.
        batch: images per update.
        d_updates_per_step: discriminator updates for one generator update.
        d_first: whether the discriminator's phase comes first in a step.
    """

    generator: Adam = Adam()
    discriminator: Adam = Adam()
    batch: Annotated[int, Field(ge=2)] = 64  # batch statistics and pairs of images need two
    d_updates_per_step: PositiveInt = 5
    d_first: bool = True


class WeightAverage(Part, ABC):
    """Exponential moving average of the generator: e ← d·e + (1 − d)·w after each step."""

    averages_buffers: bool = False

    @abstractmethod
    def decay(self, step: int, batch: int) -> float:
        """d at the zero-based step; 0 copies the weights."""


@register_part
@dataclass(frozen=True)
class NoAverage(WeightAverage):
    """The weights themselves."""

    def decay(self, step: int, batch: int) -> float:
        """Always 0."""
        return 0.0


@register_part
@dataclass(frozen=True)
class FixedAverage(WeightAverage):
    """A fixed decay from ``start`` on, over parameters and buffers (Brock et al. 2019)."""

    decay_rate: Decay = 0.9999
    start: NonNegativeInt = 1000

    averages_buffers = True

    def decay(self, step: int, batch: int) -> float:
        """0 before ``start``."""
        return self.decay_rate if step >= self.start else 0.0


@register_part
@dataclass(frozen=True)
class WarmedAverage(WeightAverage):
    """A decay that grows to ``decay_rate``: min(decay_rate, (1 + t)/(10 + t)) at step t.

    A fixed decay of .9999 from step 1,000 is after 5,000 steps still two thirds the generator of
    step 1,000; this one always spans about the last ninth of the training.
    """

    decay_rate: Decay = 0.9999

    averages_buffers = True

    def decay(self, step: int, batch: int) -> float:
        """See the class."""
        return min(self.decay_rate, (1 + step) / (10 + step))


@register_part
@dataclass(frozen=True)
class HalfLifeAverage(WeightAverage):
    """A half-life in images that grows with training; buffers are copied (Karras et al. 2020).

    d = 0.5^(B / max(min(half_life, ramp_up·B·step), 1e-8)).
    """

    half_life_images: PositiveFloat = 500_000.0
    ramp_up: PositiveFloat = 0.05

    def decay(self, step: int, batch: int) -> float:
        """See the class."""
        half_life = min(self.half_life_images, self.ramp_up * batch * step)
        return float(0.5 ** (batch / max(half_life, 1e-8)))
