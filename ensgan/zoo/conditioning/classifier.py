"""Conditioning by a class loss, with the auxiliary classifier as its simplest form."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch.nn.functional as functional
from torch import Tensor, nn

from ensgan.zoo.backbones.base import Backbone
from ensgan.zoo.conditioning.base import Conditioning, Evidence, Head, HeadOutput, Losses
from ensgan.zoo.conditioning.twins import NoTwin, Twin
from ensgan.zoo.parts import register_part, too_low


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
        problems = [*self.twin.problems(), *too_low(self, weight=0)]
        if num_classes < 2:
            problems.append(
                f"{type(self).__name__} needs at least 2 classes, the data has {num_classes}: "
                "use a row with a projection discriminator"
            )
        return problems

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
        loss = self.twin.discriminator_loss(
            self.class_loss, self.weight, real, fake, real_targets, fake_targets
        )
        return {"conditional": loss}

    def generator_losses(
        self, fake: HeadOutput, labels: Tensor, again: Callable[[Tensor], HeadOutput]
    ) -> Losses:
        """The class term of the generator."""
        loss = self.twin.generator_loss(self.class_loss, self.weight, fake, labels, again)
        return {"conditional": loss}


class ClassLogits(nn.Module):
    """A bias-free linear classifier."""

    def __init__(self, backbone: Backbone, feature_dim: int, targets: int) -> None:
        super().__init__()
        self.linear = backbone.linear(feature_dim, targets, bias=False)

    def forward(self, features: Tensor, targets: Tensor) -> Evidence:
        """h → logits [B, targets]."""
        del targets
        return Evidence(self.linear(features))


@register_part
@dataclass(frozen=True)
class AuxiliaryClassifier(ClassLossConditioning):
    """AC (Odena, Olah & Shlens 2017) with cross entropy; D's classifier sees reals only.

    Attributes:
        weight: λ.
        twin: TAC or ADC.
    """

    weight: float = 1.0
    twin: Twin = field(default_factory=NoTwin)

    def class_head(self, backbone: Backbone, feature_dim: int, targets: int) -> nn.Module:
        """Build a classifier."""
        return ClassLogits(backbone, feature_dim, targets)

    def class_loss(self, evidence: Evidence | None, targets: Tensor) -> Tensor:
        """Cross entropy."""
        assert evidence is not None
        return functional.cross_entropy(evidence.vectors, targets)
