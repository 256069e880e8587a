"""StyleGAN2's layers against the oracles and the formulas."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_cases import cases, close, double
from torch import Tensor, nn

from ensgan.zoo.backbones.stylegan2 import ClassMap, MappingNetwork, StyleProjection
from ensgan.zoo.backbones.stylegan2_layers import (
    EqualisedConv,
    EqualisedLinear,
    StyledConv,
    ToImage,
    fir_filter,
    fir_kernel,
    fir_upsample,
    minibatch_std_channel,
    modulated_conv,
    modulated_upsampling_conv,
)


def double_normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_modulated_conv_follows_the_oracle(oracles: Path) -> None:
    kernel = fir_kernel().double()
    ups = set()
    for case in cases(oracles, "extras", "modulated_conv"):
        inputs = {key: double(case["inputs"][key]) for key in ("x", "weight", "styles")}
        up = case["inputs"]["up"]
        ups.add(up)
        conv = modulated_conv if up == 1 else partial(modulated_upsampling_conv, kernel=kernel)
        close(conv(**inputs), case["expected"]["y"])
    assert ups == {1, 2}


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.integers(1, 5),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_shared_kernel_equals_a_kernel_per_sample(
    seed: int, size: int, channels: tuple[int, int]
) -> None:
    source = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=source, dtype=torch.float64)
    x, weight = draw(3, channels[0], size, size), draw(channels[1], channels[0], 3, 3)
    styles = draw(3, channels[0])
    per_sample = weight[None] * styles[:, None, :, None, None]
    per_sample = per_sample / (per_sample.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    expected = torch.cat(
        [torch.conv2d(x[i : i + 1], per_sample[i], padding=1) for i in range(len(x))]
    )
    close(modulated_conv(x, weight, styles), expected, 1e-10)


def test_resampling_follows_the_oracle(oracles: Path) -> None:
    kernel = fir_kernel().double()
    for case in cases(oracles, "extras", "fir_resample"):
        x = double(case["inputs"]["x"])
        close(fir_upsample(x, kernel), case["expected"]["up"])
        close(fir_filter(x, kernel, padding=1)[..., ::2, ::2], case["expected"]["down"])


def test_minibatch_std_follows_the_oracle(oracles: Path) -> None:
    for case in cases(oracles, "extras", "minibatch_std"):
        x = double(case["inputs"]["x"])
        channel = minibatch_std_channel(x, case["inputs"]["group_size"])
        assert channel.shape == (len(x), 1, *x.shape[2:])
        close(channel[:, 0, 0, 0], case["expected"]["value_per_sample"])
        assert bool((channel == channel[:, :, :1, :1]).all())


def test_minibatch_std_takes_any_batch_size() -> None:
    x = torch.randn(6, 3, 4, 4)
    torch.testing.assert_close(minibatch_std_channel(x, 4), minibatch_std_channel(x, 3))


def test_mapping_network_follows_the_oracle(oracles: Path) -> None:
    for case in cases(oracles, "extras", "mapping_network"):
        inputs = case["inputs"]
        network = MappingNetwork(2, 2, 3, layers=2)
        names = {"embed": "embed", "layers.0": "fc0", "layers.1": "fc1"}
        network.load_state_dict(
            {
                f"{ours}.{kind}": torch.tensor(inputs[f"{theirs}_{kind}"])
                for ours, theirs in names.items()
                for kind in ("weight", "bias")
            }
        )
        classes = torch.eye(2)[inputs["labels"]]
        close(network(torch.tensor(inputs["z"]), classes), case["expected"]["w"], 1e-5)


class FixedVectors(nn.Module):
    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = vectors

    def forward(self, labels: Tensor) -> Tensor:
        return self.vectors[labels]


def test_style_projection_follows_the_oracle(oracles: Path) -> None:
    for case in cases(oracles, "losses", "spd_output"):
        inputs = case["inputs"]
        vectors = double(inputs["cmap"])
        head = StyleProjection(vectors.shape[1], len(vectors), layers=1).double()
        head.linear.weight.data = double(inputs["raw_W"])
        head.linear.bias.data = double(inputs["b"])
        head.class_map = FixedVectors(vectors)  # type: ignore[assignment]
        logits = head(double(inputs["h"]), torch.tensor(inputs["labels"]))
        close(logits[:, None], case["expected"]["adv"])


def test_class_map_is_the_mapping_of_each_label() -> None:
    class_map = ClassMap(5, 6, layers=3)
    labels = torch.tensor([4, 0, 4, 2])
    torch.testing.assert_close(class_map(labels), class_map.mapping(None, torch.eye(5)[labels]))


def test_equalised_linear_starts_with_unit_outputs_and_wanted_bias() -> None:
    torch.manual_seed(0)
    for multiplier in (1.0, 0.01):
        layer = EqualisedLinear(400, 300, bias=1.0, lr_multiplier=multiplier)
        y = layer(torch.randn(200, 400))
        assert abs(float(y.detach().mean()) - 1) < 0.05
        assert abs(float(y.detach().std()) - 1) < 0.05
        assert abs(float(layer.weight.detach().std()) * multiplier - 1) < 0.02


def slowly_activated(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * 2**0.5


@pytest.mark.parametrize("upsample", [False, True])
def test_styled_conv_follows_the_formula(upsample: bool) -> None:
    layer = StyledConv(5, 3, 4, upsample=upsample).double()
    for parameter in layer.parameters():
        parameter.data.normal_()
    size = 8 if upsample else 4
    x, w, noise = double_normal(2, 3, 4, 4), double_normal(2, 5), double_normal(2, 1, size, size)
    styles = w @ layer.affine.weight.t() / 5**0.5 + layer.affine.bias
    kernel = {"kernel": fir_kernel().double()} if upsample else {}
    conv = modulated_upsampling_conv if upsample else modulated_conv
    y = conv(x, layer.weight, styles, **kernel) + layer.noise_strength * noise
    close(layer(x, w, noise), slowly_activated(y + layer.bias[:, None, None]))


def test_image_layer_follows_the_formula() -> None:
    layer = ToImage(5, 6, 3).double()
    for parameter in layer.parameters():
        parameter.data.normal_()
    x, w = double_normal(2, 6, 4, 4), double_normal(2, 5)
    styles = (w @ layer.affine.weight.t() / 5**0.5 + layer.affine.bias) / 6**0.5
    expected = torch.einsum("oi,bi,bihw->bohw", layer.weight[:, :, 0, 0], styles, x)
    close(layer(x, w), expected + layer.bias[:, None, None])


@pytest.mark.parametrize("downsample", [False, True])
def test_equalised_conv_follows_the_formula(downsample: bool) -> None:
    layer = EqualisedConv(3, 4, 3, downsample=downsample).double()
    layer.bias.data.normal_()
    x = double_normal(2, 3, 8, 8)
    weight = layer.weight / 27**0.5
    if downsample:
        blurred = fir_filter(x, fir_kernel().double(), padding=2)
        y = torch.conv2d(blurred, weight, layer.bias, stride=2)
    else:
        y = torch.conv2d(x, weight, layer.bias, padding=1)
    close(layer(x), slowly_activated(y))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_layer_is_a_pointwise_convolution_and_channels_last(channels: int) -> None:
    layer = EqualisedConv(channels, 4, 1).double()
    layer.bias.data.normal_()
    x = double_normal(2, channels, 8, 8)
    y = torch.conv2d(x, layer.weight / channels**0.5, layer.bias)
    close(layer(x), slowly_activated(y))
    assert layer(x).is_contiguous(memory_format=torch.channels_last)
