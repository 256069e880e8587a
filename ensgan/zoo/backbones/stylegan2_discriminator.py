"""The StyleGAN2 discriminator without skips ("orig"; Karras et al. 2020a) and its head layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ensgan.types import ImageShape
from ensgan.zoo.backbones.base import ClassVectors, ProjectionHead, Trunk, one_hot
from ensgan.zoo.backbones.stylegan2_generator import MappingNetwork
from ensgan.zoo.backbones.stylegan2_layers import (
    EqualisedConv,
    EqualisedLinear,
    minibatch_std_channel,
)


class StyleGAN2Trunk(Trunk):
    """fromRGB, then two convolutions a resolution down to 4×4, minibatch-std, two layers.

    Args:
        shape: of the images.
        channels: feature channels at 4, 8, … up to the image size.
        group_size: samples in a group of the minibatch standard deviation.
    """

    def __init__(self, shape: ImageShape, channels: Sequence[int], group_size: int) -> None:
        super().__init__()
        smallest, largest = channels[0], channels[-1]
        layers = [EqualisedConv(shape.channels, largest, 1)]
        for inputs, outputs in itertools.pairwise(reversed(channels)):
            layers.append(EqualisedConv(inputs, inputs, 3))
            layers.append(EqualisedConv(inputs, outputs, 3, downsample=True))
        self.layers = nn.Sequential(*layers)
        self.last_conv = EqualisedConv(smallest + 1, smallest, 3)
        self.last_linear = EqualisedLinear(16 * smallest, smallest, activate=True)
        self.feature_dim = smallest
        self.group_size = group_size

    def forward(self, images: Tensor) -> Tensor:
        """Images [B,C,H,W] to features [B,feature_dim]; depends on the composition of the batch."""
        x = self.layers(images)
        x = torch.cat([x, minibatch_std_channel(x, self.group_size)], dim=1)
        return cast(Tensor, self.last_linear(self.last_conv(x).flatten(1)))


class ClassMap(ClassVectors):
    """A mapping network that sees the class alone.

    All K vectors are computed and the rows wanted are picked by a product with one-hot labels:
    cheaper than mapping every sample, and its gradient is deterministic on every device.

    Args:
        num_classes: K.
        dim: length of a vector.
        layers: activated layers after the normalised class embedding.
    """

    def __init__(self, num_classes: int, dim: int, layers: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.mapping = MappingNetwork(0, num_classes, dim, layers)

    def forward(self, labels: Tensor) -> Tensor:
        """Labels int64 [B] to vectors [B,dim]."""
        weight = self.mapping.embed.weight
        classes = torch.eye(self.num_classes, dtype=weight.dtype, device=weight.device)
        vectors: Tensor = self.mapping(None, classes)
        return one_hot(labels, self.num_classes).to(weight.dtype) @ vectors


class StyleProjection(ProjectionHead):
    """Adversarial output ⟨f(h), m_y⟩/√dim, m_y a mapped class (Karras et al. 2020b).

    Args:
        feature_dim: length of h and of m_y.
        num_classes: K.
        layers: activated layers of the class map.
    """

    def __init__(self, feature_dim: int, num_classes: int, layers: int) -> None:
        super().__init__()
        self.linear = EqualisedLinear(feature_dim, feature_dim)
        self.class_map: ClassVectors = ClassMap(num_classes, feature_dim, layers)
        self.gain = 1 / math.sqrt(feature_dim)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Features [B,feature_dim] and labels int64 [B] to logits [B]."""
        product: Tensor = self.linear(features) * self.class_map(labels)
        return product.sum(dim=1) * self.gain
