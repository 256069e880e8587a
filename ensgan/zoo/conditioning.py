"""How labels enter the discriminator: by projection, a multi-hinge head, or a class loss.

A conditioning is a head on the features h, and the loss terms it adds. The multi-hinge head has K
classes and 'fake' (Kavalerov, Czaja & Chellappa 2021).

A *twin* says what a class loss does with fakes: TAC (Gong et al. 2019) and ADC (Hou et al. 2022).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import field
from typing import Literal, NamedTuple, TypeAlias

from pydantic import NonNegativeFloat
from torch import Tensor, nn
from typing_extensions import Self

from ensgan.zoo.backbones import Backbone, Evidence, Head, HeadOutput
from ensgan.zoo.losses import Losses
from ensgan.zoo.parts import Part, register_part


class Conditioning(Part, ABC):
    """How labels enter the discriminator and which loss terms that adds.

    *Targets* are the class indices the head works with: the labels, or their doubled form.
    """

    def scaled(self, width: float) -> Self:
        """Embedding widths times ``width``; nothing to scale by default."""
        return self

    def problems(self, num_classes: int) -> list[str]:
        """Every rule that is broken, one sentence each."""
        return []

    @abstractmethod
    def head(self, backbone: Backbone, feature_dim: int, num_classes: int) -> Head:
        """Build the head."""

    def real_targets(self, labels: Tensor) -> Tensor:
        """Targets of real images, and of fakes that should pass for real."""
        return labels

    def fake_targets(self, labels: Tensor) -> Tensor:
        """Targets of fakes in the discriminator's update."""
        return labels

    def discriminator_losses(
        self, real: HeadOutput, fake: HeadOutput, real_targets: Tensor, fake_targets: Tensor
    ) -> Losses:
        """Terms added to the discriminator's loss."""
        return {}

    def generator_losses(
        self, fake: HeadOutput, labels: Tensor, again: Callable[[Tensor], HeadOutput]
    ) -> Losses:
        """Terms added to the generator's loss.

        Args:
            fake: output for the fakes with ``real_targets(labels)``.
            labels: int64 [B], the classes the generator was asked for.
            again: a further forward of the discriminator on the same fakes with other targets.
        """
        return {}


Again: TypeAlias = Callable[[Tensor], HeadOutput]
"""A further forward of the discriminator on the same fakes with other targets."""


class Judged(NamedTuple):
    """Output of the discriminator for a batch, and the targets int64 [B] it was given."""

    output: HeadOutput
    targets: Tensor


class Twin(Part):
    """What a classifier conditioning does with fakes; the plain one ignores them in D."""

    second_head: bool = False

    def targets(self, num_classes: int) -> int:
        """Number of target classes."""
        return num_classes

    def real_targets(self, labels: Tensor) -> Tensor:
        """Targets of real images."""
        return labels

    def fake_targets(self, labels: Tensor) -> Tensor:
        """Targets of fakes."""
        return labels

    def discriminator_loss(self, of: ClassLossConditioning, real: Judged, fake: Judged) -> Tensor:
        """Weighted loss of the discriminator."""
        return of.weight * of.class_loss(real.output.main, real.targets)

    def generator_loss(
        self, of: ClassLossConditioning, fake: HeadOutput, labels: Tensor, again: Again
    ) -> Tensor:
        """Weighted loss of the generator."""
        return of.weight * of.class_loss(fake.main, labels)


@register_part
class NoTwin(Twin):
    """The classifier learns from real images only."""


@register_part
class TAC(Twin):
    """A twin classifier learns the labels of fakes, and the generator works against it.

    D: + λ_D·L_T(fake), G: − λ_G·L_T(fake).

    Attributes:
        discriminator_weight, generator_weight: λ_D and λ_G.
        form: "paper" reads the twin head; "reference" reads the main head in the twin terms, as
            the implementation behind the published results does, so that the twin never learns
            and equal weights cancel in the generator.
    """

    discriminator_weight: NonNegativeFloat = 1.0
    generator_weight: NonNegativeFloat = 1.0
    form: Literal["paper", "reference"] = "paper"

    second_head = True

    def _evidence(self, output: HeadOutput) -> Evidence | None:
        return output.twin if self.form == "paper" else output.main

    def discriminator_loss(self, of: ClassLossConditioning, real: Judged, fake: Judged) -> Tensor:
        """λ·L(real) + λ_D·L_T(fake)."""
        twin = of.class_loss(self._evidence(fake.output), fake.targets)
        return super().discriminator_loss(of, real, fake) + self.discriminator_weight * twin

    def generator_loss(
        self, of: ClassLossConditioning, fake: HeadOutput, labels: Tensor, again: Again
    ) -> Tensor:
        """λ·L(fake) − λ_G·L_T(fake)."""
        twin = of.class_loss(self._evidence(fake), labels)
        return super().generator_loss(of, fake, labels, again) - self.generator_weight * twin


@register_part
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

    def discriminator_loss(self, of: ClassLossConditioning, real: Judged, fake: Judged) -> Tensor:
        """λ·[L(real, 2y) + L(fake, 2y + 1)]."""
        terms = [of.class_loss(output.main, targets) for output, targets in (real, fake)]
        return of.weight * (terms[0] + terms[1])

    def generator_loss(
        self, of: ClassLossConditioning, fake: HeadOutput, labels: Tensor, again: Again
    ) -> Tensor:
        """λ·[L(fake, 2y) − L(fake, 2y + 1)]."""
        as_real, as_fake = self.real_targets(labels), self.fake_targets(labels)
        passing = of.class_loss(fake.main, as_real)
        return of.weight * (passing - of.class_loss(again(as_fake).main, as_fake))


class ClassifiedOutput(Head):
    """Adversarial output, a class head and, for TAC, a twin of it."""

    def __init__(self, adversarial: nn.Module, main: nn.Module, twin: nn.Module | None) -> None:
        super().__init__()
        self.adversarial, self.main, self.twin = adversarial, main, twin

    def forward(self, features: Tensor, targets: Tensor) -> HeadOutput:
        """Adversarial output [B] and the evidence of the class heads."""
        return HeadOutput(
            features,
            self.adversarial(features).squeeze(1),
            self.main(features, targets),
            None if self.twin is None else self.twin(features, targets),
        )


class ClassLossConditioning(Conditioning):
    """Base of AC, 2C and D2D-CE: a class head whose loss both players minimise.

    D: + λ·L(real, y); G: + λ·L(fake, y); the twin may change both.
    """

    weight: float
    twin: Twin

    @abstractmethod
    def class_head(self, backbone: Backbone, feature_dim: int, targets: int) -> nn.Module:
        """Build one class head: (h, targets) → :class:`Evidence`."""

    @abstractmethod
    def class_loss(self, evidence: Evidence | None, targets: Tensor) -> Tensor:
        """The unweighted loss of one batch."""

    def problems(self, num_classes: int) -> list[str]:
        """A class loss needs two classes."""
        if num_classes >= 2:
            return []
        return [
            f"{type(self).__name__} needs at least 2 classes, the data has {num_classes}: use a "
            "row with a projection discriminator"
        ]

    def head(self, backbone: Backbone, feature_dim: int, num_classes: int) -> Head:
        """Build the head."""
        targets = self.twin.targets(num_classes)
        return ClassifiedOutput(
            backbone.linear(feature_dim, 1, bias=True),
            self.class_head(backbone, feature_dim, targets),
            self.class_head(backbone, feature_dim, targets) if self.twin.second_head else None,
        )

    def real_targets(self, labels: Tensor) -> Tensor:
        """Targets of real images."""
        return self.twin.real_targets(labels)

    def fake_targets(self, labels: Tensor) -> Tensor:
        """Targets of fakes in the discriminator's update."""
        return self.twin.fake_targets(labels)

    def discriminator_losses(
        self, real: HeadOutput, fake: HeadOutput, real_targets: Tensor, fake_targets: Tensor
    ) -> Losses:
        """The class term of the discriminator."""
        judged = Judged(real, real_targets), Judged(fake, fake_targets)
        return {"conditional": self.twin.discriminator_loss(self, *judged)}

    def generator_losses(self, fake: HeadOutput, labels: Tensor, again: Again) -> Losses:
        """The class term of the generator."""
        return {"conditional": self.twin.generator_loss(self, fake, labels, again)}


class ProjectionOutput(Head):
    """The backbone's projection head."""

    def __init__(self, backbone: Backbone, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.projection = backbone.projection(feature_dim, num_classes)

    def forward(self, features: Tensor, targets: Tensor) -> HeadOutput:
        """Adversarial output only."""
        return HeadOutput(features, self.projection(features, targets))


@register_part
class Projection(Conditioning):
    """PD (Miyato & Koyama 2018); with StyleGAN2 its own form (Karras et al. 2020)."""

    twin: Twin = field(default_factory=NoTwin)

    def problems(self, num_classes: int) -> list[str]:
        """Twins need a classifier."""
        if isinstance(self.twin, NoTwin):
            return []
        return [
            f"{type(self.twin).__name__} needs a classifier (AuxiliaryClassifier, Contrastive or "
            "D2DCE), a projection discriminator has none"
        ]

    def head(self, backbone: Backbone, feature_dim: int, num_classes: int) -> Head:
        """Build the head."""
        return ProjectionOutput(backbone, feature_dim, num_classes)


class MultiHingeOutput(Head):
    """One linear layer to K + 1 outputs, the last of them 'fake'."""

    def __init__(self, backbone: Backbone, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.adversarial = backbone.linear(feature_dim, num_classes + 1, bias=True)

    def forward(self, features: Tensor, targets: Tensor) -> HeadOutput:
        """Adversarial output [B, K + 1]."""
        return HeadOutput(features, self.adversarial(features))


@register_part
class MultiHingeClasses(Conditioning):
    """The head that the multi-hinge loss reads; adds no term of its own."""

    def head(self, backbone: Backbone, feature_dim: int, num_classes: int) -> Head:
        """Build the head."""
        return MultiHingeOutput(backbone, feature_dim, num_classes)
