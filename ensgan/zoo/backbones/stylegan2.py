"""StyleGAN2 (Karras et al. 2020a): a mapping and a "skip" synthesis network, and discriminator."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from typing_extensions import Self

import ensgan.zoo.backbones.stylegan2_layers as parts
from ensgan.types import ImageShape
from ensgan.zoo.backbones import Backbone, Generator, Player, Trunk, one_hot
from ensgan.zoo.parts import register_part

_MAPPING_LR = 0.01
_MEAN_STYLE_DECAY = 0.998


class MappingNetwork(nn.Module):
    """Latent and class to a style: w = f([norm(z); norm(W y + b)]) (Karras et al. 2020b, C.1).

    Args:
        latent_dim: length of z (InfoGAN codes included), 0 for a class map without z.
        num_classes: K.
        style_dim: length of w and of the class embedding.
        layers: number of activated layers after the concatenation.
    """

    def __init__(self, latent_dim: int, num_classes: int, style_dim: int, layers: int) -> None:
        super().__init__()
        self.embed = parts.EqualisedLinear(num_classes, style_dim)
        widths = [latent_dim + style_dim] + [style_dim] * (layers - 1)
        self.layers = nn.ModuleList(
            parts.EqualisedLinear(width, style_dim, lr_multiplier=_MAPPING_LR, activate=True)
            for width in widths
        )

    def forward(self, latents: Tensor | None, classes: Tensor) -> Tensor:
        """Latents [B,latent_dim] (None without) and one-hot classes [B,K] to w [B,style_dim]."""
        with parts.full_precision(classes):
            x = parts.normalise_second_moment(self.embed(classes))
            if latents is not None:
                x = torch.cat([parts.normalise_second_moment(latents), x], dim=1)
            for layer in self.layers:
                x = layer(x)
            return x


class FirstBlock(nn.Module):
    """The 4×4 block: a learned constant, one convolution, the first image."""

    def __init__(self, style_dim: int, outputs: int, image_channels: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(outputs, 4, 4))
        self.conv = parts.StyledConv(style_dim, outputs, outputs, upsample=False)
        self.to_image = parts.ToImage(style_dim, outputs, image_channels)

    def forward(self, w: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B,outputs,4,4] and image [B,C,4,4] from w [B,style_dim] and a noise plane."""
        x = self.conv(self.constant.expand(len(w), -1, -1, -1), w, noise)
        return x, self.to_image(x, w)


class DoublingBlock(nn.Module):
    """One resolution after the first: two convolutions and a contribution to the image.

    Args:
        style_dim: length of w.
        inputs: input channels.
        outputs: output channels.
        image_channels: C of the image.
    """

    kernel: Tensor

    def __init__(self, style_dim: int, inputs: int, outputs: int, image_channels: int) -> None:
        super().__init__()
        self.up = parts.StyledConv(style_dim, inputs, outputs, upsample=True)
        self.conv = parts.StyledConv(style_dim, outputs, outputs, upsample=False)
        self.to_image = parts.ToImage(style_dim, outputs, image_channels)
        self.register_buffer("kernel", parts.fir_kernel(), persistent=False)

    def forward(
        self, features: Tensor, image: Tensor, w: Tensor, noise: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Double features [B,inputs,H,W] and image [B,C,H,W], with two planes [B,1,2H,2W]."""
        x = self.conv(self.up(features, w, noise[0]), w, noise[1])
        with parts.full_precision(image):
            enlarged = parts.fir_upsample(image, self.kernel)
        return x, enlarged + self.to_image(x, w)


class StyleGAN2Generator(Generator):
    """Mapping network, then synthesis from 4×4 up by doubling; the image is not squashed.

    Args:
        backbone: widths and layers.
        shape: of the images.
        num_classes: K.
        code_dim: length of the concatenated InfoGAN codes, appended to z and normalised with it.
    """

    mean_style: Tensor

    def __init__(
        self, backbone: StyleGAN2, shape: ImageShape, num_classes: int, code_dim: int
    ) -> None:
        super().__init__()
        self.shape, self.num_classes = shape, num_classes
        self.latent_dim, self.code_dim = backbone.latent_dim, code_dim
        style_dim, channels = backbone.style_dim, backbone.channels(shape.size)
        self.mapping = MappingNetwork(
            self.latent_dim + code_dim, num_classes, style_dim, backbone.mapping_layers
        )
        self.first = FirstBlock(style_dim, channels[0], shape.channels)
        self.blocks = nn.ModuleList(
            DoublingBlock(style_dim, inputs, outputs, shape.channels)
            for inputs, outputs in itertools.pairwise(channels)
        )
        doubled = [4 * 2**level for level in range(1, len(channels))]
        self.noise_sizes = (4, *(size for size in doubled for _ in range(2)))
        self.register_buffer("mean_style", torch.zeros(style_dim))
        self._tracks_mean = False

    def prepare(self, player: Player) -> None:
        """The running mean of w follows only the fakes made for the discriminator."""
        self._tracks_mean = player is Player.DISCRIMINATOR

    def forward(
        self,
        latents: Tensor,
        labels: Tensor,
        code: Tensor | None = None,
        noise: Sequence[Tensor] = (),
    ) -> Tensor:
        """Make images [B,C,H,W], unbounded."""
        joined = latents if code is None else torch.cat([latents, code], dim=1)
        w = self.mapping(joined, one_hot(labels, self.num_classes).to(latents.dtype))
        if self.training and self._tracks_mean:
            with torch.no_grad():
                self.mean_style.lerp_(w.mean(dim=0), 1 - _MEAN_STYLE_DECAY)
        return self.synthesise(w, noise)

    def synthesise(self, w: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Styles w [B,style_dim] and one noise plane per convolution to images [B,C,H,W]."""
        features, image = self.first(w, noise[0])
        for index, block in enumerate(self.blocks):
            features, image = block(features, image, w, noise[2 * index + 1 : 2 * index + 3])
        return cast(Tensor, image)


_SMALLEST = 8
_PROXY_LAYERS = 1


class StyleGAN2Trunk(Trunk):
    """fromRGB, then two convolutions per resolution down to 4×4, minibatch-std, two layers.

    Args:
        shape: of the images.
        channels: feature channels at 4, 8, … up to the image size.
        group_size: samples in a group of the minibatch standard deviation.
    """

    def __init__(self, shape: ImageShape, channels: Sequence[int], group_size: int) -> None:
        super().__init__()
        smallest, largest = channels[0], channels[-1]
        layers = [parts.EqualisedConv(shape.channels, largest, 1)]
        for inputs, outputs in itertools.pairwise(reversed(channels)):
            layers.append(parts.EqualisedConv(inputs, inputs, 3))
            layers.append(parts.EqualisedConv(inputs, outputs, 3, downsample=True))
        self.layers = nn.Sequential(*layers)
        self.last_conv = parts.EqualisedConv(smallest + 1, smallest, 3)
        self.last_linear = parts.EqualisedLinear(16 * smallest, smallest, activate=True)
        self.feature_dim = smallest
        self.group_size = group_size

    def forward(self, images: Tensor) -> Tensor:
        """Images [B,C,H,W] to features [B,feature_dim]; depends on the composition of the batch."""
        x = self.layers(images)
        x = torch.cat([x, parts.minibatch_std_channel(x, self.group_size)], dim=1)
        return cast(Tensor, self.last_linear(self.last_conv(x).flatten(1)))


class ClassMap(nn.Module):
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


class StyleProjection(nn.Module):
    """Adversarial output ⟨f(h), m_y⟩/√dim, m_y a mapped class (Karras et al. 2020b).

    Args:
        feature_dim: length of h and of m_y.
        num_classes: K.
        layers: activated layers of the class map.
    """

    def __init__(self, feature_dim: int, num_classes: int, layers: int) -> None:
        super().__init__()
        self.linear = parts.EqualisedLinear(feature_dim, feature_dim)
        self.class_map: nn.Module = ClassMap(num_classes, feature_dim, layers)
        self.gain = 1 / math.sqrt(feature_dim)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Features [B,feature_dim] and labels int64 [B] to logits [B]."""
        product: Tensor = self.linear(features) * self.class_map(labels)
        return product.sum(dim=1) * self.gain


_WIDTHS = ("latent_dim", "style_dim", "max_channels", "channel_budget")


@register_part
class StyleGAN2(Backbone):
    """Style-based generator, plain discriminator, projection through a class map.

    Attributes:
        latent_dim: length of z.
        style_dim: length of w.
        max_channels: most feature channels at any resolution, in both networks.
        channel_budget: channels × resolution is at most this.
        mapping_layers: layers of the generator's mapping network.
        class_map_layers: layers of the discriminator's class map.
        group_size: samples in a group of the minibatch standard deviation.
    """

    latent_dim: PositiveInt = 512
    style_dim: PositiveInt = 512
    max_channels: PositiveInt = 512
    channel_budget: PositiveInt = 16384
    mapping_layers: PositiveInt = 2
    class_map_layers: PositiveInt = 8
    group_size: PositiveInt = 32

    def scaled(self, width: float) -> Self:
        """All widths times ``width``, in multiples of 8, z as long as w."""
        if width == 1.0:
            return self
        scaled = {name: max(8, 8 * round(getattr(self, name) * width / 8)) for name in _WIDTHS}
        return dataclasses.replace(self, **scaled)

    def problems(self, shape: ImageShape, num_classes: int, code_dim: int) -> list[str]:
        """StyleGAN2 doubles from 4×4: the image size must be a power of two, at least 8."""
        if shape.size >= _SMALLEST and not shape.size & (shape.size - 1):
            return []
        near = max(_SMALLEST, 1 << (shape.size - 1).bit_length())
        return [f"StyleGAN2 makes images of 8, 16, 32 … pixels, not {shape.size}: use {near}"]

    def channels(self, size: int) -> list[int]:
        """Feature channels at 4, 8, … up to ``size`` pixels."""
        levels = size.bit_length() - 2
        budgets = (self.channel_budget // (4 * 2**level) for level in range(levels))
        return [max(1, min(budget, self.max_channels)) for budget in budgets]

    def generator(self, shape: ImageShape, num_classes: int, code_dim: int) -> StyleGAN2Generator:
        """The generator; ``code_dim`` InfoGAN numbers lengthen the mapping network's input."""
        return StyleGAN2Generator(self, shape, num_classes, code_dim)

    def trunk(self, shape: ImageShape) -> StyleGAN2Trunk:
        """The discriminator without heads."""
        return StyleGAN2Trunk(shape, self.channels(shape.size), self.group_size)

    def linear(self, inputs: int, outputs: int, *, bias: bool) -> nn.Module:
        """A linear layer with equalised learning rate."""
        return parts.EqualisedLinear(inputs, outputs, bias=0.0 if bias else None)

    def class_vectors(self, num_classes: int, dim: int) -> nn.Module:
        """Class proxies: a class map of one layer."""
        return ClassMap(num_classes, dim, _PROXY_LAYERS)

    def projection(self, feature_dim: int, num_classes: int) -> nn.Module:
        """The projection through the class map ("SPD")."""
        return StyleProjection(feature_dim, num_classes, self.class_map_layers)
