"""Multi-hinge head: K classes and 'fake' in one output (Kavalerov, Czaja & Chellappa 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ensgan.zoo.backbones.base import Backbone
from ensgan.zoo.conditioning.base import Conditioning, Head, HeadOutput
from ensgan.zoo.parts import register_part


class MultiHingeOutput(Head):
    """One linear layer to K + 1 outputs, the last of them 'fake'."""

    def __init__(self, backbone: Backbone, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.adversarial = backbone.linear(feature_dim, num_classes + 1, bias=True)

    def forward(self, features: Tensor, targets: Tensor) -> HeadOutput:
        """Adversarial output [B, K + 1]."""
        del targets
        return HeadOutput(features, self.adversarial(features))


@register_part
@dataclass(frozen=True)
class MultiHingeClasses(Conditioning):
    """The head that the multi-hinge loss reads; adds no term of its own."""

    def head(self, backbone: Backbone, feature_dim: int, num_classes: int) -> Head:
        """Build the head."""
        return MultiHingeOutput(backbone, feature_dim, num_classes)
