"""Layers of StyleGAN2 (Karras et al. 2020a): equalised layers, resampling, modulation.

Only differentiable PyTorch operations are used, so gradients of gradients (R1) work everywhere.
Under automatic mixed precision the large convolutions run in the short format; styles, the
factors computed from them, statistics and the image itself stay in float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ensgan.zoo.backbones import pointwise
from ensgan.zoo.backbones.effective import ScaledParameters

_EPSILON = 1e-8
_SLOPE = 0.2
ACTIVATION_GAIN = math.sqrt(2.0)
"""Keeps the second moment of a Gaussian through the leaky ReLU."""


def full_precision(x: Tensor) -> torch.autocast:
    """A context without automatic mixed precision on the device of ``x``."""
    return torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    """``x`` in float32, or as it is when wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2.

    The published activation multiplies by √2 afterwards. A leaky ReLU is positively homogeneous,
    so layers fold :data:`ACTIVATION_GAIN` into what they multiply by anyway.
    """
    return functional.leaky_relu(x, _SLOPE)


def normalise_second_moment(x: Tensor) -> Tensor:
    """Scale every row of ``x`` [B,n] to a mean square of 1 (pixel norm)."""
    return x * (x.square().mean(dim=1, keepdim=True) + _EPSILON).rsqrt()


def fir_kernel() -> Tensor:
    """The low-pass filter outer([1,3,3,1])/64, float32 [4,4], sum 1."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def fir_filter(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    """Filter every channel of ``x`` [B,C,H,W] after zero padding on all four sides.

    Args:
        x: the images.
        kernel: float [h,w], symmetric, so that correlation and convolution agree.
        padding: rows and columns of zeros on each side.

    Returns:
        [B,C,H+2·padding−h+1,W+2·padding−w+1].
    """
    channels = x.shape[1]
    weight = kernel.to(x.dtype).expand(channels, 1, *kernel.shape)
    return functional.conv2d(x, weight, padding=padding, groups=channels)


def fir_upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Double the size of ``x`` [B,C,H,W]: zero insertion, then the FIR filter with gain 4.

    A strided transposed convolution is that operation without touching the inserted zeros.
    """
    channels = x.shape[1]
    weight = 4 * kernel.to(x.dtype).expand(channels, 1, *kernel.shape)
    return functional.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


def minibatch_std_channel(x: Tensor, group_size: int) -> Tensor:
    """One channel holding how much a sample's group varies (Karras et al. 2018).

    With n = B / min(group_size, B) groups, sample i belongs to group i mod n. The standard
    deviation over the group is taken per feature and averaged to one number.

    Args:
        x: features [B,C,H,W].
        group_size: wanted samples in a group. Where it does not divide B, the largest smaller
            size that does is taken, so that any batch size can be used.

    Returns:
        [B,1,H,W].
    """
    batch, channels, height, width = x.shape
    group = min(group_size, batch)
    while batch % group:
        group -= 1
    groups = batch // group
    members = widened(x).reshape(group, groups, channels, height, width)
    variance = (members - members.mean(dim=0)).square().mean(dim=0)
    spread = (variance + _EPSILON).sqrt().mean(dim=(1, 2, 3))
    channel = spread.repeat(group).reshape(batch, 1, 1, 1).expand(batch, 1, height, width)
    return channel.to(x.dtype)


def modulated_conv(
    x: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool = True, gain: float = 1.0
) -> Tensor:
    """Convolution whose input channels are scaled per sample (Karras et al. 2020a, eq. 1–3).

    Scaling the input by the style and the output by the demodulation factor equals scaling the
    weights, but shares one kernel over the batch: an ordinary convolution instead of B of them.

    Args:
        x: [B,C_in,H,W].
        weight: [C_out,C_in,k,k] with odd k.
        styles: [B,C_in].
        demodulate: divide each output map by the norm of its modulated weights.
        gain: factor of the demodulated output.

    Returns:
        [B,C_out,H,W].
    """
    scaled = x * _per_map(styles, x)
    y = functional.conv2d(scaled, weight, padding=weight.shape[-1] // 2)
    return y * _per_map(gain * demodulation(weight, styles), y) if demodulate else y


def modulated_upsampling_conv(
    x: Tensor, weight: Tensor, styles: Tensor, *, kernel: Tensor, gain: float = 1.0
) -> Tensor:
    """Demodulated :func:`modulated_conv` that doubles the size.

    Zero insertion and a true 3×3 convolution (one transposed convolution), then the FIR filter
    with gain 4.

    Args:
        x: [B,C_in,H,W].
        weight: [C_out,C_in,3,3].
        styles: [B,C_in].
        kernel: the FIR filter, float [4,4].
        gain: factor of the output.

    Returns:
        [B,C_out,2H,2W].
    """
    scaled = x * _per_map(styles, x)
    y = functional.conv_transpose2d(scaled, weight.transpose(0, 1), stride=2)
    factors = _per_map(gain * demodulation(weight, styles), y)
    return fir_filter(y, 4 * kernel, padding=1) * factors


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """1/√(Σ (weight·style)² + 1e-8) over input channels and taps: [B,C_out]."""
    with full_precision(styles):
        energy = weight.square().sum(dim=(2, 3))
        return (styles.square() @ energy.t() + _EPSILON).rsqrt()


def _per_map(factors: Tensor, like: Tensor) -> Tensor:
    """[B,C] to [B,C,1,1] in the format of ``like``."""
    return factors[:, :, None, None].to(like.dtype)


class EqualisedLinear(ScaledParameters):
    """Linear layer whose weights are scaled at run time (equalised learning rate).

    Raw weights are drawn from N(0,1)/m and used as w·m/√fan_in, the bias as b·m, where m is the
    learning-rate multiplier (Karras et al. 2018).

    Args:
        inputs: width of the input.
        outputs: width of the output.
        bias: initial effective bias, or None for a layer without bias.
        lr_multiplier: m.
        activate: apply the leaky ReLU and its gain.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: float | None = 0.0,
        lr_multiplier: float = 1.0,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = (
            None if bias is None else nn.Parameter(torch.full((outputs,), bias / lr_multiplier))
        )
        gain = lr_multiplier * (ACTIVATION_GAIN if activate else 1.0)
        self.gains = {"weight": gain / math.sqrt(inputs)}
        if self.bias is not None:
            self.gains["bias"] = gain
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,inputs] to [B,outputs]."""
        bias = None if self.bias is None else self.scaled("bias")
        y = functional.linear(x, self.scaled("weight"), bias)
        return leaky_relu(y) if self.activate else y


class EqualisedConv(ScaledParameters):
    """Convolution with equalised learning rate, bias and leaky ReLU.

    Args:
        inputs: input channels.
        outputs: output channels.
        size: odd kernel size.
        downsample: halve the resolution: FIR filter (padding 2), then a convolution of stride 2.
    """

    kernel: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, *, downsample: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gains = {
            "weight": ACTIVATION_GAIN / math.sqrt(inputs * size * size),
            "bias": ACTIVATION_GAIN,
        }
        self.downsample = downsample
        if downsample:
            self.register_buffer("kernel", fir_kernel(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,inputs,H,W] to [B,outputs,H,W], or half the size when down-sampling."""
        weight, bias = self.scaled("weight"), self.scaled("bias")
        if self.downsample:
            blurred = fir_filter(x, self.kernel, padding=2)
            return leaky_relu(functional.conv2d(blurred, weight, bias, stride=2))
        if weight.shape[-1] == 1:
            return leaky_relu(pointwise(x, weight, bias))
        return leaky_relu(functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2))


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
        self.affine = EqualisedLinear(style_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.gains = {"bias": ACTIVATION_GAIN, "noise_strength": ACTIVATION_GAIN}
        self.upsample = upsample
        if upsample:
            self.register_buffer("kernel", fir_kernel(), persistent=False)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """Map [B,inputs,H,W] to [B,outputs,H,W] or twice the size; noise is one plane [B,1,·,·]."""
        with full_precision(w):
            styles = self.affine(w)
        if self.upsample:
            y = modulated_upsampling_conv(
                x, self.weight, styles, kernel=self.kernel, gain=ACTIVATION_GAIN
            )
        else:
            y = modulated_conv(x, self.weight, styles, gain=ACTIVATION_GAIN)
        y = y + (noise * self.scaled("noise_strength")).to(y.dtype)
        return leaky_relu(y + self.scaled("bias")[:, None, None].to(y.dtype))


class ToImage(nn.Module):
    """Modulated 1×1 convolution to image channels, without demodulation ("toRGB")."""

    def __init__(self, style_dim: int, inputs: int, channels: int) -> None:
        super().__init__()
        self.affine = EqualisedLinear(style_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.style_gain = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map [B,inputs,H,W] to [B,channels,H,W]."""
        with full_precision(w):
            styles = self.affine(w) * self.style_gain
        y = modulated_conv(x, self.weight, styles, demodulate=False)
        return widened(y) + self.bias[:, None, None]
