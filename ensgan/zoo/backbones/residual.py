"""What the residual backbones share: blocks, the discriminator's trunk, heads, sizes."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise

import torch.nn.functional as functional
from torch import Tensor, nn

import ensgan.zoo.backbones.layers as layers
from ensgan.types import ImageShape
from ensgan.zoo.backbones import Backbone, Generator, Player, Trunk

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


def size_problems(backbone: str, shape: ImageShape, num_classes: int) -> list[str]:
    """Rules that hold for every residual backbone."""
    problems = []
    if shape.size not in GENERATOR_MULTIPLES:
        sizes = ", ".join(str(size) for size in GENERATOR_MULTIPLES)
        problems.append(f"{backbone} makes images of {sizes} pixels, not {shape.size}")
    if shape.channels < 1:
        problems.append(f"images need at least 1 channel, not {shape.channels}")
    if num_classes < 1:
        problems.append(f"a data set has at least 1 class, not {num_classes}")
    return problems


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
        return ResidualProjection(feature_dim, num_classes, spectral=self._spectral_heads)

    @property
    def _spectral_heads(self) -> bool:
        return self.has_spectral_norm(Player.DISCRIMINATOR)


class GeneratorBlock(nn.Module):
    """cBN→ReLU→×2→3×3→cBN→ReLU→3×3, plus the shortcut ×2→1×1."""

    def __init__(self, inputs: int, outputs: int, condition_dim: int, *, spectral: bool) -> None:
        super().__init__()
        self.norm1 = layers.ConditionalBatchNorm(inputs, condition_dim, spectral=spectral)
        self.conv1 = layers.UpsampleConv2d(inputs, outputs, spectral=spectral)
        self.norm2 = layers.ConditionalBatchNorm(outputs, condition_dim, spectral=spectral)
        self.conv2 = layers.Conv2d(outputs, outputs, spectral=spectral)
        self.shortcut = layers.Conv2d(inputs, outputs, 1, spectral=spectral)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """[B, inputs, H, W], condition [B, condition_dim] → [B, outputs, 2H, 2W]."""
        main: Tensor = self.conv1(functional.relu(self.norm1(features, condition)))
        main = self.conv2(functional.relu(self.norm2(main, condition)))
        # A 1×1 convolution commutes with nearest-neighbour enlargement.
        shortcut = functional.interpolate(self.shortcut(features), scale_factor=2.0)
        return main + shortcut


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
            GeneratorBlock(inputs, outputs, condition_dim, spectral=spectral)
            for inputs, outputs in pairwise(widths)
        )
        self.attention = (
            layers.SelfAttention(widths[GENERATOR_ATTENTION_AFTER], spectral=spectral)
            if backbone.attention
            else nn.Identity()
        )
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


class TrunkBlock(nn.Module):
    """Residual block of the discriminator; the first one reads the image unactivated.

    With spectral norm there is no batch norm, and the shortcut reads the already rectified input
    (the networks this zoo reproduces rectify it in place); with batch norm it reads the raw one.
    """

    def __init__(
        self, inputs: int, outputs: int, *, first: bool, downsample: bool, spectral: bool
    ) -> None:
        super().__init__()
        self.first, self.downsample, self.spectral = first, downsample, spectral
        plain = spectral or first
        self.norm1 = nn.Identity() if plain else layers.BatchNorm(inputs)
        self.conv1 = layers.Conv2d(inputs, outputs, spectral=spectral)
        self.norm2 = nn.Identity() if spectral else layers.BatchNorm(outputs)
        second = layers.ConvDownsample2d if downsample else layers.Conv2d
        self.conv2 = second(outputs, outputs, spectral=spectral)
        learned = downsample or inputs != outputs
        self.norm3 = layers.BatchNorm(inputs) if learned and not spectral else nn.Identity()
        narrow = layers.ImageConv if first else layers.Conv2d
        self.shortcut = narrow(inputs, outputs, 1, spectral=spectral) if learned else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, outputs, H, W], halved in size when down-sampling."""
        if not self.first and self.spectral:
            features = functional.relu(features)
        main: Tensor = features
        if not self.first and not self.spectral:
            main = functional.relu(self.norm1(main))
        main = self.conv2(functional.relu(self.norm2(self.conv1(main))))
        return main + self._shortcut(features)

    def _shortcut(self, features: Tensor) -> Tensor:
        if self.first:
            # Pooled before the norm; elsewhere after it (a 1×1 convolution commutes with pooling).
            features = self.norm3(functional.avg_pool2d(features, 2))
        else:
            features = self.norm3(features)
            if self.downsample:
                features = functional.avg_pool2d(features, 2)
        shortcut: Tensor = self.shortcut(features)
        return shortcut


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
            TrunkBlock(
                inputs,
                outputs,
                first=index == 0,
                downsample=index < downsampling,
                spectral=spectral,
            )
            for index, (inputs, outputs) in enumerate(pairwise(widths))
        )
        self.attention = (
            layers.SelfAttention(widths[TRUNK_ATTENTION_AFTER], spectral=spectral)
            if backbone.attention
            else nn.Identity()
        )

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


class ResidualProjection(nn.Module):
    """a = w·h + b + ⟨V_y, h⟩ (Miyato & Koyama 2018)."""

    def __init__(self, feature_dim: int, num_classes: int, *, spectral: bool) -> None:
        super().__init__()
        self.adversarial = layers.Linear(feature_dim, 1, bias=True, spectral=spectral)
        self.classes = layers.ClassTable(num_classes, feature_dim, spectral=spectral)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """h [B, feature_dim], labels int64 [B] → logits [B]."""
        plain: Tensor = self.adversarial(features).squeeze(1)
        classes: Tensor = self.classes(labels)
        return plain + (classes * features).sum(dim=1)
