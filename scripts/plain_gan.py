"""The baseline of the training benchmark: the rows written the usual way.

The same parameters and losses, but resampling and convolution as separate operations, per-sample
modulated weights, a DataLoader, an unfused Adam per parameter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ensgan.train.training import Training
from ensgan.types import Samples
from ensgan.zoo.backbones.resnet_layers import (
    ConvDownsample2d,
    GeneratorBlock,
    TrunkBlock,
    UpsampleConv2d,
)
from ensgan.zoo.backbones.stylegan2_layers import StyledConv, ToImage, fir_filter


class PlainUpsampleConv(UpsampleConv2d):
    def forward(self, images: Tensor) -> Tensor:
        enlarged = functional.interpolate(images, scale_factor=2.0)
        return functional.conv2d(enlarged, self.normalise(self.weight), self.bias, padding=1)


class PlainConvDownsample(ConvDownsample2d):
    def forward(self, images: Tensor) -> Tensor:
        made = functional.conv2d(images, self.normalise(self.weight), self.bias, padding=1)
        return functional.avg_pool2d(made, 2)


class PlainGeneratorBlock(GeneratorBlock):
    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        main = self.conv1(functional.relu(self.norm1(features, condition)))
        main = self.conv2(functional.relu(self.norm2(main, condition)))
        return main + self.shortcut(functional.interpolate(features, scale_factor=2.0))


class PlainTrunkBlock(TrunkBlock):
    def _shortcut(self, features: Tensor) -> Tensor:
        if self.first or not self.downsample:
            return super()._shortcut(features)
        return functional.avg_pool2d(self.shortcut(self.norm3(features)), 2)


def per_sample_conv(x: Tensor, weight: Tensor, styles: Tensor, demodulate: bool) -> Tensor:
    batch, inputs, height, width = x.shape
    modulated = weight[None] * styles[:, None, :, None, None]
    if demodulate:
        modulated = modulated * (modulated.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    grouped = x.reshape(1, batch * inputs, height, width)
    kernel = modulated.flatten(0, 1)
    y = functional.conv2d(grouped, kernel, padding=weight.shape[-1] // 2, groups=batch)
    return y.reshape(batch, -1, height, width)


def per_sample_upsampling_conv(x: Tensor, weight: Tensor, styles: Tensor, kernel: Tensor) -> Tensor:
    batch, inputs, height, width = x.shape
    modulated = weight[None] * styles[:, None, :, None, None]
    modulated = modulated * (modulated.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    grouped = x.reshape(1, batch * inputs, height, width)
    swapped = modulated.transpose(1, 2).flatten(0, 1)
    y = functional.conv_transpose2d(grouped, swapped, stride=2, groups=batch)
    return fir_filter(y.reshape(batch, -1, *y.shape[2:]), 4 * kernel, padding=1)


class PlainStyledConv(StyledConv):
    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        styles = self.affine(w)
        if self.upsample:
            y = per_sample_upsampling_conv(x, self.weight, styles, self.kernel)
        else:
            y = per_sample_conv(x, self.weight, styles, True)
        y = y + noise * self.noise_strength + self.bias[:, None, None]
        return functional.leaky_relu(y, 0.2) * 2**0.5


class PlainToImage(ToImage):
    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w) * self.style_gain
        return per_sample_conv(x, self.weight, styles, False) + self.bias[:, None, None]


PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    UpsampleConv2d: PlainUpsampleConv,
    ConvDownsample2d: PlainConvDownsample,
    GeneratorBlock: PlainGeneratorBlock,
    TrunkBlock: PlainTrunkBlock,
    StyledConv: PlainStyledConv,
    ToImage: PlainToImage,
}


class LoadedReals:
    """Baskets from a DataLoader over the samples' float images."""

    def __init__(self, samples: Samples, basket: int, device: torch.device) -> None:
        images = torch.from_numpy(samples.images)[:, None].float() / 127.5 - 1
        data = TensorDataset(images, torch.from_numpy(samples.labels))
        self.loader = DataLoader(data, basket, shuffle=True, drop_last=True)
        self.batches: Iterator[Any] = iter(())
        self.device = device

    def draw(self) -> tuple[Tensor, Tensor]:
        for _ in range(2):
            for images, labels in self.batches:
                return images.to(self.device), labels.to(self.device)
            self.batches = iter(self.loader)
        raise RuntimeError("the data set holds no basket")


class LayerByLayer:
    """Stands for EffectiveWeights: every layer makes its own weight."""

    def ready(self) -> AbstractContextManager[None]:
        return nullcontext()

    def ahead(self, forwards: int) -> AbstractContextManager[None]:
        del forwards
        return nullcontext()


def make_plain(training: Training, samples: Samples) -> None:
    """Turn a training into the baseline."""
    for network in (training.generator, training.discriminator):
        network.to(memory_format=torch.contiguous_format)
        for module in network.modules():
            module.__class__ = PLAIN.get(type(module), type(module))
    basket = training.batch * training.optimiser.d_updates_per_step
    training.reals = LoadedReals(samples, basket, training.device)  # type: ignore[assignment]
    training.generator_weights = LayerByLayer()  # type: ignore[assignment]
    training.discriminator_weights = LayerByLayer()  # type: ignore[assignment]
    for name in ("generator_adam", "discriminator_adam"):
        fused = getattr(training, name)
        rates = fused.rates
        plain = torch.optim.Adam(
            fused.parameters,
            lr=rates.learning_rate,
            betas=rates.betas,
            eps=rates.eps,
            foreach=False,
        )
        setattr(training, name, plain)
