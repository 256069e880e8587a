"""The StyleGAN2 generator (Karras et al. 2020a): mapping network and "skip" synthesis network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

import ensgan.zoo.backbones.stylegan2_layers as parts
from ensgan.types import ImageShape
from ensgan.zoo.backbones import Generator, Player, one_hot
from ensgan.zoo.backbones.effective import ScaledParameters

if TYPE_CHECKING:
    from ensgan.zoo.backbones.stylegan2 import StyleGAN2

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


class StyledConv(ScaledParameters):
    """Modulated 3×3 convolution, noise, bias and leaky ReLU.

    Args:
        style_dim: length of w.
        inputs: input channels.
        outputs: output channels.
        upsample: double the resolution.
    """

    kernel: Tensor

    def __init__(self, style_dim: int, inputs: int, outputs: int, *, upsample: bool) -> None:
        super().__init__()
        self.affine = parts.EqualisedLinear(style_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.gains = {"bias": parts.ACTIVATION_GAIN, "noise_strength": parts.ACTIVATION_GAIN}
        self.upsample = upsample
        if upsample:
            self.register_buffer("kernel", parts.fir_kernel(), persistent=False)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """Map [B,inputs,H,W] to [B,outputs,H,W] or twice the size; noise is one plane [B,1,·,·]."""
        with parts.full_precision(w):
            styles = self.affine(w)
        if self.upsample:
            y = parts.modulated_upsampling_conv(
                x, self.weight, styles, kernel=self.kernel, gain=parts.ACTIVATION_GAIN
            )
        else:
            y = parts.modulated_conv(x, self.weight, styles, gain=parts.ACTIVATION_GAIN)
        y = y + (noise * self.scaled("noise_strength")).to(y.dtype)
        return parts.leaky_relu(y + self.scaled("bias")[:, None, None].to(y.dtype))


class ToImage(nn.Module):
    """Modulated 1×1 convolution to image channels, without demodulation ("toRGB")."""

    def __init__(self, style_dim: int, inputs: int, channels: int) -> None:
        super().__init__()
        self.affine = parts.EqualisedLinear(style_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.style_gain = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map [B,inputs,H,W] to [B,channels,H,W]."""
        with parts.full_precision(w):
            styles = self.affine(w) * self.style_gain
        y = parts.modulated_conv(x, self.weight, styles, demodulate=False)
        return parts.widened(y) + self.bias[:, None, None]


class FirstBlock(nn.Module):
    """The 4×4 block: a learned constant, one convolution, the first image."""

    def __init__(self, style_dim: int, outputs: int, image_channels: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(outputs, 4, 4))
        self.conv = StyledConv(style_dim, outputs, outputs, upsample=False)
        self.to_image = ToImage(style_dim, outputs, image_channels)

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
        self.up = StyledConv(style_dim, inputs, outputs, upsample=True)
        self.conv = StyledConv(style_dim, outputs, outputs, upsample=False)
        self.to_image = ToImage(style_dim, outputs, image_channels)
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
