"""Conditioning within the adversarial output, without a loss of its own.

Projection discriminators, and the multi-hinge head of K classes and 'fake' (Kavalerov, Czaja &
Chellappa 2021).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ensgan.zoo.backbones.base import Backbone
from ensgan.zoo.conditioning.base import Conditioning, Head, HeadOutput
from ensgan.zoo.conditioning.classifier import NoTwin, Twin
from ensgan.zoo.parts import register_part


class ProjectionOutput(Head):
    """The backbone's projection head."""

    def __init__(self, backbone: Backbone, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.projection = backbone.projection(feature_dim, num_classes)

    def forward(self, features: Tensor, targets: Tensor) -> HeadOutput:
        """Adversarial output only."""
        return HeadOutput(features, self.projection(features, targets))


@register_part
@dataclass(frozen=True)
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
@dataclass(frozen=True)
class MultiHingeClasses(Conditioning):
    """The head that the multi-hinge loss reads; adds no term of its own."""

    def head(self, backbone: Backbone, feature_dim: int, num_classes: int) -> Head:
        """Build the head."""
        return MultiHingeOutput(backbone, feature_dim, num_classes)
