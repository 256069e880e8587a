"""Residual backbones: ResNet of SNGAN, SAGAN and ACGAN-Mod, BigResNet of the rows after BigGAN.

Sources: Miyato et al. 2018; Zhang et al. 2019; Brock et al. 2019.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import PositiveInt
from torch import Tensor
from typing_extensions import Self

import ensgan.zoo.backbones.residual as residual
from ensgan.types import ImageShape
from ensgan.zoo.backbones import Generator, Player, one_hot
from ensgan.zoo.backbones.layers import ClassTable, Linear
from ensgan.zoo.parts import register_part


class ResNetGenerator(residual.ResidualGenerator):
    """z enters at the input; the one-hot label conditions every batch norm."""

    def __init__(self, backbone: ResNet, shape: ImageShape, num_classes: int) -> None:
        super().__init__(
            backbone, shape, num_classes, input_dim=backbone.latent_dim, condition_dim=num_classes
        )
        self.code_dim = 0

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
class ResNet(residual.ResidualBackbone):
    """Residual networks whose generator sees the label as a one-hot vector.

    Attributes:
        base_channels: at 32 pixels the generator is 4 and the discriminator 2 times as wide.
        latent_dim: length of z.
        spectral_generator, spectral_discriminator: spectral norm there; a discriminator without
            it has batch norm instead.
        attention: self-attention after the generator's 2nd and the discriminator's 1st block.
    """

    base_channels: PositiveInt = 64
    latent_dim: PositiveInt = 128
    spectral_generator: bool = False
    spectral_discriminator: bool = False
    attention: bool = False

    def has_spectral_norm(self, player: Player) -> bool:
        """See the base class."""
        is_generator = player is Player.GENERATOR
        return self.spectral_generator if is_generator else self.spectral_discriminator

    def scaled(self, width: float) -> Self:
        """Every channel count times ``width``; the latent keeps its length."""
        return dataclasses.replace(
            self, base_channels=residual.scaled_channels(self.base_channels, width)
        )

    def problems(self, shape: ImageShape, num_classes: int, code_dim: int) -> list[str]:
        """Every rule that these sizes break."""
        problems = residual.size_problems("ResNet", shape, num_classes)
        if code_dim:
            problems.append("ResNet has no input for InfoGAN codes: use BigResNet or StyleGAN2")
        return problems

    def generator(self, shape: ImageShape, num_classes: int, code_dim: int) -> Generator:
        """Build a generator."""
        return ResNetGenerator(self, shape, num_classes)


class BigResNetGenerator(residual.ResidualGenerator):
    """z is cut into chunks: the first enters at the input, the others condition one block each.

    The condition of block k is [P(code); E(y); z_k]: the codes' projection (only with InfoGAN
    codes), the shared class embedding and the block's chunk.
    """

    def __init__(
        self, backbone: BigResNet, shape: ImageShape, num_classes: int, code_dim: int
    ) -> None:
        chunks = len(residual.GENERATOR_MULTIPLES[shape.size])
        chunk_dim = backbone.latent_dim // chunks
        condition_dim = backbone.shared_dim * (2 if code_dim else 1) + chunk_dim
        super().__init__(
            backbone, shape, num_classes, input_dim=chunk_dim, condition_dim=condition_dim
        )
        self.code_dim, self.chunk_dim = code_dim, chunk_dim
        self.embedding = ClassTable(num_classes, backbone.shared_dim, spectral=False)
        self.code_projection = (
            Linear(code_dim, backbone.shared_dim, bias=True, spectral=backbone.spectral_norm)
            if code_dim
            else None
        )

    def forward(
        self,
        latents: Tensor,
        labels: Tensor,
        code: Tensor | None = None,
        noise: Sequence[Tensor] = (),
    ) -> Tensor:
        """See :class:`Generator`; takes no noise."""
        first, *rest = torch.split(latents, self.chunk_dim, dim=1)
        shared = [self.embedding(labels)]
        if self.code_projection is not None:
            shared.insert(0, self.code_projection(code))
        return self.synthesise(first, [torch.cat([*shared, chunk], dim=1) for chunk in rest])


@register_part
@dataclass(frozen=True)
class BigResNet(residual.ResidualBackbone):
    """Residual networks with a shared class embedding and a hierarchical latent.

    Attributes:
        base_channels: at 32 pixels the generator is 4 and the discriminator 2 times as wide.
        latent_dim: length of z, divisible by the number of blocks plus one.
        shared_dim: length of the class embedding and of the codes' projection.
        spectral_norm: in both networks; without it the discriminator has batch norm.
        attention: self-attention after the generator's 2nd and the discriminator's 1st block.
    """

    base_channels: PositiveInt = 96
    latent_dim: PositiveInt = 80
    shared_dim: PositiveInt = 128
    spectral_norm: bool = True
    attention: bool = True

    def has_spectral_norm(self, player: Player) -> bool:
        """See the base class."""
        return self.spectral_norm

    def scaled(self, width: float) -> Self:
        """Channels and the class embedding times ``width``; the latent keeps its length."""
        return dataclasses.replace(
            self,
            base_channels=residual.scaled_channels(self.base_channels, width),
            shared_dim=max(2, round(self.shared_dim * width)),
        )

    def problems(self, shape: ImageShape, num_classes: int, code_dim: int) -> list[str]:
        """Every rule that these sizes break."""
        problems = residual.size_problems("BigResNet", shape, num_classes)
        chunks = len(residual.GENERATOR_MULTIPLES.get(shape.size, ()))
        if chunks and self.latent_dim % chunks:
            near = max(chunks, self.latent_dim // chunks * chunks)
            problems.append(
                f"BigResNet cuts z into {chunks} equal chunks at {shape.size} pixels, which "
                f"latent_dim {self.latent_dim} does not allow: use {near} or {near + chunks}"
            )
        return problems

    def generator(self, shape: ImageShape, num_classes: int, code_dim: int) -> Generator:
        """Build a generator."""
        return BigResNetGenerator(self, shape, num_classes, code_dim)
