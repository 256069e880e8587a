"""Residual backbones: ResNet of SNGAN, SAGAN and ACGAN-Mod, BigResNet of the rows after BigGAN.

Sources: Miyato et al. 2018; Zhang et al. 2019; Brock et al. 2019.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as functional
from pydantic import PositiveInt
from torch import Tensor, nn
from typing_extensions import Self

import ensgan.zoo.backbones.resnet_layers as layers
from ensgan.types import ImageShape
from ensgan.zoo.backbones import Backbone, Generator, Player, Trunk, one_hot
from ensgan.zoo.parts import register_part

# Multiples of the base channel count by image size, from the 4×4 input on, and from the image on.
# 32 and 64: Miyato & Koyama 2018 as the residual rows use them; 128: Brock et al. 2019, table 4.
GENERATOR_MULTIPLES = {32: (4, 4, 4, 4), 64: (16, 8, 4, 2, 1), 128: (16, 16, 8, 4, 2, 1)}
TRUNK_MULTIPLES = {32: (2, 2, 2, 2), 64: (1, 2, 4, 8, 16), 128: (1, 2, 4, 8, 16, 16)}
TRUNK_DOWNSAMPLING = {32: 2, 64: 4, 128: 5}


# Self-attention follows these blocks (counted from 1).
GENERATOR_ATTENTION_AFTER = 2
TRUNK_ATTENTION_AFTER = 1
_CHANNEL_STEP = 4


def scaled_channels(channels: int, width: float) -> int:
    """``channels`` times ``width``, rounded to a multiple of 4 (so twice it divides by 8)."""
    return max(_CHANNEL_STEP, round(channels * width / _CHANNEL_STEP) * _CHANNEL_STEP)


def size_problems(backbone: str, shape: ImageShape) -> list[str]:
    """The rule that holds for every residual backbone."""
    if shape.size in GENERATOR_MULTIPLES:
        return []
    sizes = ", ".join(str(size) for size in GENERATOR_MULTIPLES)
    return [f"{backbone} makes images of {sizes} pixels, not {shape.size}"]


class ResidualBackbone(Backbone):
    """The discriminator that both kinds of residual backbones share."""

    base_channels: int
    attention: bool

    @abstractmethod
    def has_spectral_norm(self, player: Player) -> bool:
        """Whether a player's network has spectral norm; a trunk without it has batch norm."""

    def trunk(self, shape: ImageShape) -> ResidualTrunk:
        """Build the discriminator's trunk."""
        return ResidualTrunk(self, shape)

    def linear(self, inputs: int, outputs: int, *, bias: bool) -> nn.Module:
        """A linear layer of a head."""
        return layers.Linear(inputs, outputs, bias=bias, spectral=self._spectral_heads)

    def class_vectors(self, num_classes: int, dim: int) -> nn.Module:
        """A table of class proxies."""
        return layers.ClassTable(num_classes, dim, spectral=self._spectral_heads)

    def projection(self, feature_dim: int, num_classes: int) -> nn.Module:
        """The projection discriminator's output."""
        return layers.ResidualProjection(feature_dim, num_classes, spectral=self._spectral_heads)

    def attending(self, channels: int, spectral: bool) -> nn.Module:
        """A layer of self-attention, one that changes nothing where there is none."""
        return (
            layers.SelfAttention(channels, spectral=spectral) if self.attention else nn.Identity()
        )

    @property
    def _spectral_heads(self) -> bool:
        return self.has_spectral_norm(Player.DISCRIMINATOR)


class ResidualGenerator(Generator):
    """Blocks from a 4×4 input up to the image; subclasses say what conditions each block."""

    def __init__(
        self,
        backbone: ResidualBackbone,
        shape: ImageShape,
        num_classes: int,
        *,
        input_dim: int,
        condition_dim: int,
    ) -> None:
        super().__init__()
        self.shape, self.num_classes = shape, num_classes
        self.latent_dim = backbone.latent_dim
        spectral = backbone.has_spectral_norm(Player.GENERATOR)
        widths = [backbone.base_channels * many for many in GENERATOR_MULTIPLES[shape.size]]
        self.input = layers.Linear(input_dim, widths[0] * 16, bias=True, spectral=spectral)
        self.blocks = nn.ModuleList(
            layers.GeneratorBlock(inputs, outputs, condition_dim, spectral=spectral)
            for inputs, outputs in pairwise(widths)
        )
        self.attention = backbone.attending(widths[GENERATOR_ATTENTION_AFTER], spectral)
        self.output_norm = layers.BatchNorm(widths[-1])
        self.output = layers.Conv2d(widths[-1], shape.channels, spectral=spectral)

    def prepare(self, player: Player) -> None:
        """Running statistics move only in the generator's own update."""
        for module in self.modules():
            if isinstance(module, layers.BatchNorm):
                module.tracking = player is Player.GENERATOR

    def synthesise(self, inputs: Tensor, conditions: list[Tensor]) -> Tensor:
        """Input vector [B, input_dim] and one condition per block → images in [-1, 1]."""
        features: Tensor = self.input(inputs).reshape(len(inputs), -1, 4, 4)
        for index, (block, condition) in enumerate(zip(self.blocks, conditions, strict=True), 1):
            features = block(features, condition)
            if index == GENERATOR_ATTENTION_AFTER:
                features = self.attention(features)
        features = self.output(functional.relu(self.output_norm(features)))
        return features.tanh()


class ResidualTrunk(Trunk):
    """Residual blocks, ReLU and the sum over positions."""

    def __init__(self, backbone: ResidualBackbone, shape: ImageShape) -> None:
        super().__init__()
        spectral = backbone.has_spectral_norm(Player.DISCRIMINATOR)
        downsampling = TRUNK_DOWNSAMPLING[shape.size]
        widths = [backbone.base_channels * many for many in TRUNK_MULTIPLES[shape.size]]
        widths.insert(0, shape.channels)
        self.feature_dim = widths[-1]
        self.code_divisor = float((shape.size >> downsampling) ** 2)
        self.blocks = nn.ModuleList(
            layers.TrunkBlock(
                inputs,
                outputs,
                first=index == 0,
                downsample=index < downsampling,
                spectral=spectral,
            )
            for index, (inputs, outputs) in enumerate(pairwise(widths))
        )
        self.attention = backbone.attending(widths[TRUNK_ATTENTION_AFTER], spectral)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] → h [B, feature_dim]."""
        features = images
        for index, block in enumerate(self.blocks, 1):
            features = block(features)
            if index == TRUNK_ATTENTION_AFTER:
                features = self.attention(features)
        return pool_features(features)


def pool_features(feature_map: Tensor) -> Tensor:
    """ReLU, then the sum over positions: [B, C, H, W] → [B, C]."""
    return functional.relu(feature_map).sum(dim=(2, 3))


class ResNetGenerator(ResidualGenerator):
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
class ResNet(ResidualBackbone):
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
        return dataclasses.replace(self, base_channels=scaled_channels(self.base_channels, width))

    def problems(self, shape: ImageShape, num_classes: int, code_dim: int) -> list[str]:
        """Every rule that these sizes break."""
        problems = size_problems("ResNet", shape)
        if code_dim:
            problems.append("ResNet has no input for InfoGAN codes: use BigResNet or StyleGAN2")
        return problems

    def generator(self, shape: ImageShape, num_classes: int, code_dim: int) -> Generator:
        """Build a generator."""
        return ResNetGenerator(self, shape, num_classes)


class BigResNetGenerator(ResidualGenerator):
    """z is cut into chunks: the first enters at the input, the others condition one block each.

    The condition of block k is [P(code); E(y); z_k]: the codes' projection (only with InfoGAN
    codes), the shared class embedding and the block's chunk.
    """

    def __init__(
        self, backbone: BigResNet, shape: ImageShape, num_classes: int, code_dim: int
    ) -> None:
        chunks = len(GENERATOR_MULTIPLES[shape.size])
        chunk_dim = backbone.latent_dim // chunks
        condition_dim = backbone.shared_dim * (2 if code_dim else 1) + chunk_dim
        super().__init__(
            backbone, shape, num_classes, input_dim=chunk_dim, condition_dim=condition_dim
        )
        self.code_dim, self.chunk_dim = code_dim, chunk_dim
        self.embedding = layers.ClassTable(num_classes, backbone.shared_dim, spectral=False)
        self.code_projection = (
            layers.Linear(code_dim, backbone.shared_dim, bias=True, spectral=backbone.spectral_norm)
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
class BigResNet(ResidualBackbone):
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
            base_channels=scaled_channels(self.base_channels, width),
            shared_dim=max(2, round(self.shared_dim * width)),
        )

    def problems(self, shape: ImageShape, num_classes: int, code_dim: int) -> list[str]:
        """Every rule that these sizes break."""
        problems = size_problems("BigResNet", shape)
        chunks = len(GENERATOR_MULTIPLES.get(shape.size, ()))
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
