"""The contract of conditioning: a head on the features h, and the loss terms it adds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor, nn
from typing_extensions import Self

from ensgan.zoo.backbones import Backbone
from ensgan.zoo.parts import Part

Losses: TypeAlias = dict[str, Tensor]
"""Loss terms by name, already weighted; their sum is what the player minimises."""


@dataclass(frozen=True)
class Evidence:
    """Output of a class head for a batch.

    Attributes:
        vectors: classifier logits [B, classes], or unit embeddings [B, dim].
        proxies: unit proxies [B, dim] of the target classes; None for a classifier.
    """

    vectors: Tensor
    proxies: Tensor | None = None


@dataclass(frozen=True)
class HeadOutput:
    """Output of the discriminator for a batch.

    Attributes:
        features: h [B, feature_dim].
        adversarial: [B], or [B, K + 1] of the multi-hinge head.
        main, twin: the class heads' evidence, None where the row has no such head.
        code_logits: [B, codes · categories] of the InfoGAN head, where it was asked for.
    """

    features: Tensor
    adversarial: Tensor
    main: Evidence | None = None
    twin: Evidence | None = None
    code_logits: Tensor | None = None

    def trainable_outputs(self) -> list[Tensor]:
        """Every output a discriminator update can send gradients through."""
        outputs = [self.adversarial]
        for evidence in (self.main, self.twin):
            if evidence is not None:
                outputs.append(evidence.vectors)
                if evidence.proxies is not None:
                    outputs.append(evidence.proxies)
        return outputs


class Head(nn.Module, ABC):
    """The discriminator's head on features."""

    @abstractmethod
    def forward(self, features: Tensor, targets: Tensor) -> HeadOutput:
        """h [B, feature_dim], targets int64 [B] → output."""


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
