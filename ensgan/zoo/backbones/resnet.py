"""ResNet backbone of SNGAN, SAGAN and ACGAN-Mod (Miyato et al. 2018; Zhang et al. 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ensgan.types import ImageShape
from ensgan.zoo.backbones.base import (
    Backbone,
    ClassVectors,
    Generator,
    ProjectionHead,
    Trunk,
    one_hot,
)
from ensgan.zoo.backbones.layers import ClassTable, Linear
from ensgan.zoo.backbones.residual import (
    ResidualGenerator,
    ResidualProjection,
    ResidualTrunk,
    scaled_channels,
    size_problems,
)
from ensgan.zoo.parts import register_part, too_low


class ResNetGenerator(ResidualGenerator):
    """z enters at the input; the one-hot label conditions every batch norm."""

    def __init__(self, backbone: ResNet, shape: ImageShape, num_classes: int) -> None:
        super().__init__(
            shape,
            num_classes,
            base_channels=backbone.base_channels,
            input_dim=backbone.latent_dim,
            condition_dim=num_classes,
            spectral=backbone.spectral_generator,
            attention=backbone.attention,
        )
        self.latent_dim, self.code_dim = backbone.latent_dim, 0

    def forward(
        self,
        latents: Tensor,
        labels: Tensor,
        code: Tensor | None = None,
        noise: Sequence[Tensor] = (),
    ) -> Tensor:
        """See :class:`Generator`; takes neither code nor noise."""
        condition = one_hot(labels, self.num_classes)
        return self.synthesise(latents, [condition] * len(self.blocks))


@register_part
@dataclass(frozen=True)
class ResNet(Backbone):
    """Residual networks whose generator sees the label as a one-hot vector.

    Attributes:
        base_channels: at 32 pixels the generator is 4 and the discriminator 2 times as wide.
        latent_dim: length of z.
        spectral_generator, spectral_discriminator: spectral norm there; a discriminator without
            it has batch norm instead.
        attention: self-attention after the generator's 2nd and the discriminator's 1st block.
    """

    base_channels: int = 64
    latent_dim: int = 128
    spectral_generator: bool = False
    spectral_discriminator: bool = False
    attention: bool = False

    def scaled(self, width: float) -> ResNet:
        """Every channel count times ``width``; the latent keeps its length."""
        return dataclasses.replace(self, base_channels=scaled_channels(self.base_channels, width))

    def problems(self, shape: ImageShape, num_classes: int, code_dim: int) -> list[str]:
        """Every rule that these sizes break."""
        problems = size_problems("ResNet", shape, num_classes)
        problems += too_low(self, base_channels=1, latent_dim=1)
        if code_dim:
            problems.append("ResNet has no input for InfoGAN codes: use BigResNet or StyleGAN2")
        return problems

    def generator(self, shape: ImageShape, num_classes: int, code_dim: int) -> Generator:
        """Build a generator."""
        return ResNetGenerator(self, shape, num_classes)

    def trunk(self, shape: ImageShape) -> Trunk:
        """Build the discriminator's trunk."""
        return ResidualTrunk(
            shape,
            base_channels=self.base_channels,
            spectral=self.spectral_discriminator,
            attention=self.attention,
        )

    def linear(self, inputs: int, outputs: int, *, bias: bool) -> nn.Module:
        """A linear layer of a head."""
        return Linear(inputs, outputs, bias=bias, spectral=self.spectral_discriminator)

    def class_vectors(self, num_classes: int, dim: int) -> ClassVectors:
        """A table of class proxies."""
        return ClassTable(num_classes, dim, spectral=self.spectral_discriminator)

    def projection(self, feature_dim: int, num_classes: int) -> ProjectionHead:
        """The projection discriminator's output."""
        return ResidualProjection(feature_dim, num_classes, spectral=self.spectral_discriminator)
