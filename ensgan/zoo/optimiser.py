"""How a row is optimised and how its generator's weights are averaged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from ensgan.zoo.parts import Part, not_positive, register_part, too_low


@register_part
@dataclass(frozen=True)
class Adam(Part):
    """Adam without weight decay."""

    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    eps: float = 1e-6

    def problems(self) -> list[str]:
        """Every rule that is broken, one sentence each."""
        problems = []
        if not self.learning_rate > 0:
            problems.append(f"the learning rate must be positive, not {self.learning_rate}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            problems.append(f"Adam's betas are two numbers in [0, 1), not {self.betas}")
        if not self.eps > 0:
            problems.append(f"Adam's eps must be positive, not {self.eps}")
        return problems


@register_part
@dataclass(frozen=True)
class Optimiser(Part):
    """Rates, batch and order of updates.

    Attributes:
        generator, discriminator: their Adam.
        batch: images an update.
        d_updates_per_step: discriminator updates for one generator update.
        d_first: whether the discriminator's phase comes first in a step.
    """

    generator: Adam = Adam()
    discriminator: Adam = Adam()
    batch: int = 64
    d_updates_per_step: int = 5
    d_first: bool = True

    def problems(self) -> list[str]:
        """Every rule that is broken, one sentence each."""
        problems = [*self.generator.problems(), *self.discriminator.problems()]
        if self.batch < 2:
            problems.append(f"the batch must hold at least 2 images, not {self.batch}")
        if self.d_updates_per_step < 1:
            problems.append(
                f"a step needs at least 1 discriminator update, not {self.d_updates_per_step}"
            )
        return problems


class WeightAverage(Part, ABC):
    """Exponential moving average of the generator: e ← d·e + (1 − d)·w after each step."""

    averages_buffers: bool = False

    def problems(self) -> list[str]:
        """Every rule that is broken, one sentence each."""
        return []

    @abstractmethod
    def decay(self, step: int, batch: int) -> float:
        """d at the zero-based step; 0 copies the weights."""


@register_part
@dataclass(frozen=True)
class NoAverage(WeightAverage):
    """The weights themselves."""

    def decay(self, step: int, batch: int) -> float:
        """Always 0."""
        del step, batch
        return 0.0


@register_part
@dataclass(frozen=True)
class FixedAverage(WeightAverage):
    """A fixed decay from ``start`` on, over parameters and buffers (Brock et al. 2019)."""

    decay_rate: float = 0.9999
    start: int = 1000

    averages_buffers = True

    def problems(self) -> list[str]:
        """See the class."""
        found = too_low(self, decay_rate=0, start=0)
        if not found and self.decay_rate >= 1:
            found.append(f"FixedAverage: decay_rate must be below 1, not {self.decay_rate}")
        return found

    def decay(self, step: int, batch: int) -> float:
        """0 before ``start``."""
        del batch
        return self.decay_rate if step >= self.start else 0.0


@register_part
@dataclass(frozen=True)
class WarmedAverage(WeightAverage):
    """A decay that grows to ``decay_rate``: min(decay_rate, (1 + t)/(10 + t)) at step t.

    A fixed decay of .9999 from step 1,000 is after 5,000 steps still two thirds the generator of
    step 1,000; this one always spans about the last ninth of the training.
    """

    decay_rate: float = 0.9999

    averages_buffers = True

    def problems(self) -> list[str]:
        """See the class."""
        return FixedAverage(self.decay_rate).problems()

    def decay(self, step: int, batch: int) -> float:
        """See the class."""
        del batch
        return min(self.decay_rate, (1 + step) / (10 + step))


@register_part
@dataclass(frozen=True)
class HalfLifeAverage(WeightAverage):
    """A half-life in images that grows with training; buffers are copied (Karras et al. 2020).

    d = 0.5^(B / max(min(half_life, ramp_up·B·step), 1e-8)).
    """

    half_life_images: float = 500_000.0
    ramp_up: float = 0.05

    def problems(self) -> list[str]:
        """See the class."""
        return not_positive(self, "half_life_images", "ramp_up")

    def decay(self, step: int, batch: int) -> float:
        """See the class."""
        half_life = min(self.half_life_images, self.ramp_up * batch * step)
        return float(0.5 ** (batch / max(half_life, 1e-8)))
