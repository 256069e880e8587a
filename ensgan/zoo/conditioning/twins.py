"""Second class losses on fakes: TAC (Gong et al. 2019) and ADC (Hou et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from ensgan.zoo.conditioning.base import Evidence, HeadOutput
from ensgan.zoo.parts import Part, register_part, too_low

ClassLoss: TypeAlias = Callable[[Evidence | None, Tensor], Tensor]
"""(evidence, targets int64 [B]) → scalar."""

FORMS = ("paper", "reference")


class Twin(Part):
    """What a classifier conditioning does with fakes; the plain one ignores them in D."""

    second_head: bool = False

    def targets(self, num_classes: int) -> int:
        """Number of target classes."""
        return num_classes

    def problems(self) -> list[str]:
        """Every rule that is broken, one sentence each."""
        return []

    def real_targets(self, labels: Tensor) -> Tensor:
        """Targets of real images."""
        return labels

    def fake_targets(self, labels: Tensor) -> Tensor:
        """Targets of fakes."""
        return labels

    def discriminator_loss(
        self,
        loss: ClassLoss,
        weight: float,
        real: HeadOutput,
        fake: HeadOutput,
        real_targets: Tensor,
        fake_targets: Tensor,
    ) -> Tensor:
        """Weighted loss of the discriminator."""
        del fake, fake_targets
        return weight * loss(real.main, real_targets)

    def generator_loss(
        self,
        loss: ClassLoss,
        weight: float,
        fake: HeadOutput,
        labels: Tensor,
        again: Callable[[Tensor], HeadOutput],
    ) -> Tensor:
        """Weighted loss of the generator."""
        del again
        return weight * loss(fake.main, labels)


@register_part
@dataclass(frozen=True)
class NoTwin(Twin):
    """The classifier learns from real images only."""


@register_part
@dataclass(frozen=True)
class TAC(Twin):
    """A twin classifier learns the labels of fakes, and the generator works against it.

    D: + λ_D·L_T(fake), G: − λ_G·L_T(fake).

    Attributes:
        discriminator_weight, generator_weight: λ_D and λ_G.
        form: "paper" reads the twin head; "reference" reads the main head in the twin terms, as
            the implementation behind the published results does, so that the twin never learns
            and equal weights cancel in the generator.
    """

    discriminator_weight: float = 1.0
    generator_weight: float = 1.0
    form: str = "paper"

    second_head = True

    def problems(self) -> list[str]:
        """The form must be known."""
        found = too_low(self, discriminator_weight=0, generator_weight=0)
        if self.form not in FORMS:
            found.append(f"TAC has the forms {' and '.join(FORMS)}, not '{self.form}'")
        return found

    def _evidence(self, output: HeadOutput) -> Evidence | None:
        return output.twin if self.form == "paper" else output.main

    def discriminator_loss(
        self,
        loss: ClassLoss,
        weight: float,
        real: HeadOutput,
        fake: HeadOutput,
        real_targets: Tensor,
        fake_targets: Tensor,
    ) -> Tensor:
        """λ·L(real) + λ_D·L_T(fake)."""
        twin = loss(self._evidence(fake), fake_targets)
        return weight * loss(real.main, real_targets) + self.discriminator_weight * twin

    def generator_loss(
        self,
        loss: ClassLoss,
        weight: float,
        fake: HeadOutput,
        labels: Tensor,
        again: Callable[[Tensor], HeadOutput],
    ) -> Tensor:
        """λ·L(fake) − λ_G·L_T(fake)."""
        del again
        twin = loss(self._evidence(fake), labels)
        return weight * loss(fake.main, labels) - self.generator_weight * twin


@register_part
@dataclass(frozen=True)
class ADC(Twin):
    """The classifier has 2K targets: 2y = real of class y, 2y + 1 = fake of class y.

    D: λ·[L(real, 2y) + L(fake, 2y + 1)], G: λ·[L(fake, 2y) − L(fake, 2y + 1)]; the generator's
    second term takes a second forward of the discriminator.
    """

    def targets(self, num_classes: int) -> int:
        """2K."""
        return 2 * num_classes

    def real_targets(self, labels: Tensor) -> Tensor:
        """2y."""
        return 2 * labels

    def fake_targets(self, labels: Tensor) -> Tensor:
        """2y + 1."""
        return 2 * labels + 1

    def discriminator_loss(
        self,
        loss: ClassLoss,
        weight: float,
        real: HeadOutput,
        fake: HeadOutput,
        real_targets: Tensor,
        fake_targets: Tensor,
    ) -> Tensor:
        """λ·[L(real, 2y) + L(fake, 2y + 1)]."""
        return weight * (loss(real.main, real_targets) + loss(fake.main, fake_targets))

    def generator_loss(
        self,
        loss: ClassLoss,
        weight: float,
        fake: HeadOutput,
        labels: Tensor,
        again: Callable[[Tensor], HeadOutput],
    ) -> Tensor:
        """λ·[L(fake, 2y) − L(fake, 2y + 1)]."""
        as_real, as_fake = self.real_targets(labels), self.fake_targets(labels)
        return weight * (loss(fake.main, as_real) - loss(again(as_fake).main, as_fake))
