"""Layers and blocks of the residual networks: spectral norm, conditional batch norm, attention.

Convolution and linear layers start orthogonal with gain 1 (weights flattened to (out, rest)) and
zero biases. Every layer takes ``spectral``: whether its weight is divided by its largest singular
value as power iteration estimates it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ensgan.zoo.backbones import pointwise
from ensgan.zoo.backbones.spectral import SpectralNorm

BATCH_NORM_EPS = 1e-4
BATCH_NORM_MOMENTUM = 0.1


def _orthogonal(weight: Tensor) -> None:
    """Orthogonal rows or columns with gain 1; a tensor without storage stays as it is."""
    if not weight.is_meta:
        nn.init.orthogonal_(weight)


def _weight_norm(weight: Tensor, spectral: bool) -> nn.Module:
    return SpectralNorm(weight) if spectral else nn.Identity()


def _start(layer: nn.Linear | nn.Conv2d) -> None:
    """Orthogonal weight, zero bias."""
    _orthogonal(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Linear(nn.Linear):
    """Linear layer, orthogonal at the start, optionally spectrally normalised."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool, spectral: bool) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.normalise = _weight_norm(self.weight, spectral)

    reset_parameters = _start

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, inputs] → [B, outputs]."""
        return functional.linear(inputs, self.normalise(self.weight), self.bias)


class ClassTable(nn.Module):
    """One trained vector per class, orthonormal rows at the start."""

    def __init__(self, num_classes: int, dim: int, *, spectral: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, dim))
        _orthogonal(self.weight)
        self.normalise = _weight_norm(self.weight, spectral)

    def forward(self, labels: Tensor) -> Tensor:
        """labels int64 [B] → [B, dim]."""
        return functional.embedding(labels, self.normalise(self.weight))


class Conv2d(nn.Conv2d):
    """Size-preserving convolution with stride 1 (kernel 1 or 3), zero padded."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, *, spectral: bool, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
        self.normalise = _weight_norm(self.weight, spectral)

    reset_parameters = _start

    def forward(self, images: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, outputs, H, W]."""
        return functional.conv2d(
            images, self.normalise(self.weight), self.bias, padding=self.padding
        )


class ImageConv(Conv2d):
    """1×1 convolution of an image's few channels."""

    def forward(self, images: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, outputs, H, W], channels last."""
        return pointwise(images, self.normalise(self.weight), self.bias)


class UpsampleConv2d(Conv2d):
    """Nearest-neighbour ×2 followed by a 3×3 convolution, done as one transposed convolution.

    Each output pixel of the pair sees only 2×2 distinct inputs, so the nine taps collapse into
    four: 2.25 times fewer multiplications and no enlarged copy of the input.
    """

    def forward(self, images: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, outputs, 2H, 2W]."""
        kernel = _spread(self.normalise(self.weight)).flip(2, 3).transpose(0, 1)
        return functional.conv_transpose2d(images, kernel, self.bias, stride=2, padding=1)


class ConvDownsample2d(Conv2d):
    """3×3 convolution followed by 2×2 average pooling, done as one 4×4 convolution of stride 2."""

    def forward(self, images: Tensor) -> Tensor:
        """[B, inputs, 2H, 2W] → [B, outputs, H, W]."""
        kernel = _spread(self.normalise(self.weight), divisor=4)
        return functional.conv2d(images, kernel, self.bias, stride=2, padding=1)


def _spread(kernel: Tensor, divisor: int = 1) -> Tensor:
    """The 3×3 kernel convolved with a 2×2 block of 1/divisor: (O, I, 3, 3) → (O, I, 4, 4).

    Pooling sums neighbours in one kernel; rows first, then columns, fixes the order of the sums.
    """
    rows = functional.avg_pool2d(kernel, (2, 1), 1, (1, 0), divisor_override=1)
    return functional.avg_pool2d(rows, (1, 2), 1, (0, 1), divisor_override=divisor)


class BatchNorm(nn.Module):
    """Batch norm; ``tracking`` False leaves the running statistics alone.

    Unlike torch's own it keeps no batch counter, which a fixed momentum does not need.
    """

    running_mean: Tensor
    running_var: Tensor
    tracking: bool = True

    def __init__(self, channels: int, *, affine: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, images: Tensor) -> Tensor:
        """Normalise with batch statistics in train mode, running statistics in eval mode."""
        keep = not self.training or self.tracking
        return functional.batch_norm(
            images,
            self.running_mean if keep else None,
            self.running_var if keep else None,
            self.weight,
            self.bias,
            self.training,
            BATCH_NORM_MOMENTUM,
            BATCH_NORM_EPS,
        )


class ConditionalBatchNorm(nn.Module):
    """y = x̂·(1 + W_g c) + W_b c with bias-free maps of the condition c.

    Source: Dumoulin et al. 2017; de Vries et al. 2017.
    """

    def __init__(self, channels: int, condition_dim: int, *, spectral: bool) -> None:
        super().__init__()
        self.normalise = BatchNorm(channels, affine=False)
        self.gain = Linear(condition_dim, channels, bias=False, spectral=spectral)
        self.shift = Linear(condition_dim, channels, bias=False, spectral=spectral)

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        """images [B, C, H, W], condition [B, condition_dim] → [B, C, H, W]."""
        gain = (1 + self.gain(condition))[:, :, None, None]
        shift = self.shift(condition)[:, :, None, None]
        return torch.addcmul(shift, self.normalise(images), gain)


class SelfAttention(nn.Module):
    """x + γ·o(g Aᵀ) with A = softmax over pooled keys of θᵀφ (Zhang et al. 2019).

    θ, φ: C → C/8, g: C → C/2, o: C/2 → C, all 1×1 without bias; φ and g are 2×2 max-pooled; no
    1/√d scaling; γ starts at 0.
    """

    def __init__(self, channels: int, *, spectral: bool) -> None:
        super().__init__()
        inner, values = max(1, channels // 8), max(1, channels // 2)
        self.query = Conv2d(channels, inner, 1, spectral=spectral, bias=False)
        self.key = Conv2d(channels, inner, 1, spectral=spectral, bias=False)
        self.value = Conv2d(channels, values, 1, spectral=spectral, bias=False)
        self.output = Conv2d(values, channels, 1, spectral=spectral, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, H, W]."""
        height, width = images.shape[2:]
        query = self.query(images).flatten(2)
        key = functional.max_pool2d(self.key(images), 2).flatten(2)
        value = functional.max_pool2d(self.value(images), 2).flatten(2)
        attention = torch.softmax(torch.bmm(query.transpose(1, 2), key), dim=-1)
        mixed = torch.bmm(value, attention.transpose(1, 2))
        attended: Tensor = self.output(mixed.reshape(*mixed.shape[:2], height, width))
        return images + self.gamma * attended


class GeneratorBlock(nn.Module):
    """cBN→ReLU→×2→3×3→cBN→ReLU→3×3, plus the shortcut ×2→1×1."""

    def __init__(self, inputs: int, outputs: int, condition_dim: int, *, spectral: bool) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm(inputs, condition_dim, spectral=spectral)
        self.conv1 = UpsampleConv2d(inputs, outputs, spectral=spectral)
        self.norm2 = ConditionalBatchNorm(outputs, condition_dim, spectral=spectral)
        self.conv2 = Conv2d(outputs, outputs, spectral=spectral)
        self.shortcut = Conv2d(inputs, outputs, 1, spectral=spectral)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """[B, inputs, H, W], condition [B, condition_dim] → [B, outputs, 2H, 2W]."""
        main: Tensor = self.conv1(functional.relu(self.norm1(features, condition)))
        main = self.conv2(functional.relu(self.norm2(main, condition)))
        # A 1×1 convolution commutes with nearest-neighbour enlargement.
        shortcut = functional.interpolate(self.shortcut(features), scale_factor=2.0)
        return main + shortcut


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
        self.norm1 = nn.Identity() if plain else BatchNorm(inputs)
        self.conv1 = Conv2d(inputs, outputs, spectral=spectral)
        self.norm2 = nn.Identity() if spectral else BatchNorm(outputs)
        second = ConvDownsample2d if downsample else Conv2d
        self.conv2 = second(outputs, outputs, spectral=spectral)
        learned = downsample or inputs != outputs
        self.norm3 = BatchNorm(inputs) if learned and not spectral else nn.Identity()
        narrow = ImageConv if first else Conv2d
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


class ResidualProjection(nn.Module):
    """a = w·h + b + ⟨V_y, h⟩ (Miyato & Koyama 2018)."""

    def __init__(self, feature_dim: int, num_classes: int, *, spectral: bool) -> None:
        super().__init__()
        self.adversarial = Linear(feature_dim, 1, bias=True, spectral=spectral)
        self.classes = ClassTable(num_classes, feature_dim, spectral=spectral)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """h [B, feature_dim], labels int64 [B] → logits [B]."""
        plain: Tensor = self.adversarial(features).squeeze(1)
        classes: Tensor = self.classes(labels)
        return plain + (classes * features).sum(dim=1)
