"""StyleGAN2's layers and networks against the oracles, the published sizes and the mathematics."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ensgan.types import ImageShape
from ensgan.zoo.backbones.base import Player
from ensgan.zoo.backbones.stylegan2 import StyleGAN2
from ensgan.zoo.backbones.stylegan2_discriminator import ClassMap, StyleProjection
from ensgan.zoo.backbones.stylegan2_generator import MappingNetwork, StyledConv, ToImage
from ensgan.zoo.backbones.stylegan2_layers import (
    EqualisedConv,
    EqualisedLinear,
    fir_filter,
    fir_kernel,
    fir_upsample,
    minibatch_std_channel,
    modulated_conv,
    modulated_upsampling_conv,
)
from ensgan.zoo.parts import part_from_json

GREY = ImageShape(1, 32)
SMALL = StyleGAN2().scaled(1 / 64)


def cases(shared: Path, section: str, name: str) -> list[dict[str, Any]]:
    oracles = json.loads((shared / "oracles" / "loss_oracles.json").read_text())
    found: list[dict[str, Any]] = oracles[section][name]
    assert found
    return found


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor, expected: object, tolerance: float = 1e-9) -> None:
    wanted = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, wanted, rtol=tolerance, atol=tolerance)


def double_normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def noise_planes(sizes: tuple[int, ...], batch: int, seed: int = 0) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 1, size, size, generator=source) for size in sizes]


# Layers ----------------------------------------------------------------------------------------


def test_modulated_conv_follows_the_oracle(shared: Path) -> None:
    kernel = fir_kernel().double()
    ups = set()
    for case in cases(shared, "extras", "modulated_conv"):
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


def test_resampling_follows_the_oracle(shared: Path) -> None:
    kernel = fir_kernel().double()
    for case in cases(shared, "extras", "fir_resample"):
        x = double(case["inputs"]["x"])
        close(fir_upsample(x, kernel), case["expected"]["up"])
        close(fir_filter(x, kernel, padding=1)[..., ::2, ::2], case["expected"]["down"])


def test_minibatch_std_follows_the_oracle(shared: Path) -> None:
    for case in cases(shared, "extras", "minibatch_std"):
        x = double(case["inputs"]["x"])
        channel = minibatch_std_channel(x, case["inputs"]["group_size"])
        assert channel.shape == (len(x), 1, *x.shape[2:])
        close(channel[:, 0, 0, 0], case["expected"]["value_per_sample"])
        assert bool((channel == channel[:, :, :1, :1]).all())


def test_minibatch_std_takes_any_batch_size() -> None:
    x = torch.randn(6, 3, 4, 4)
    torch.testing.assert_close(minibatch_std_channel(x, 4), minibatch_std_channel(x, 3))


def test_mapping_network_follows_the_oracle(shared: Path) -> None:
    for case in cases(shared, "extras", "mapping_network"):
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


def test_style_projection_follows_the_oracle(shared: Path) -> None:
    for case in cases(shared, "losses", "spd_output"):
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


# Networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 32, 64])
def test_networks_fit_together(size: int) -> None:
    shape = ImageShape(3, size)
    generator, trunk = SMALL.generator(shape, 4, 6), SMALL.trunk(shape)
    latents, labels = torch.randn(5, generator.latent_dim), torch.tensor([0, 1, 2, 3, 3])
    images = generator(latents, labels, torch.rand(5, 6), noise_planes(generator.noise_sizes, 5))
    assert images.shape == (5, 3, size, size)
    assert trunk(images).shape == (5, trunk.feature_dim)
    head = SMALL.projection(trunk.feature_dim, 4)
    assert head(trunk(images), labels).shape == (5,)


def test_an_image_depends_on_its_own_inputs_only() -> None:
    generator = SMALL.generator(GREY, 2, 0).eval()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.5)
    latents, labels = torch.randn(4, generator.latent_dim), torch.tensor([0, 1, 1, 0])
    noise = noise_planes(generator.noise_sizes, 4)
    whole = generator(latents, labels, None, noise)
    alone = generator(latents[2:3], labels[2:3], None, [plane[2:3] for plane in noise])
    torch.testing.assert_close(whole[2:3], alone, rtol=1e-4, atol=1e-5)
    other = noise_planes(generator.noise_sizes, 4, seed=1)
    for index in range(len(noise)):  # every plane matters
        changed = [*noise[:index], other[index], *noise[index + 1 :]]
        assert not torch.allclose(whole, generator(latents, labels, None, changed), atol=1e-4)


def test_labels_and_codes_change_the_image() -> None:
    generator = SMALL.generator(GREY, 2, 10)
    noise = noise_planes(generator.noise_sizes, 1)
    latents, code = torch.randn(1, generator.latent_dim), torch.eye(10)
    first = generator(latents, torch.tensor([0]), code[:1], noise)
    assert not torch.allclose(first, generator(latents, torch.tensor([1]), code[:1], noise))
    assert not torch.allclose(first, generator(latents, torch.tensor([0]), code[1:2], noise))


def test_mean_style_follows_the_fakes_made_for_the_discriminator() -> None:
    generator = SMALL.generator(GREY, 2, 0)
    latents, labels = torch.randn(6, generator.latent_dim), torch.tensor([0, 1] * 3)
    noise = noise_planes(generator.noise_sizes, 6)
    generator.prepare(Player.GENERATOR)
    generator(latents, labels, None, noise)
    assert not generator.mean_style.any()
    generator.prepare(Player.DISCRIMINATOR)
    generator(latents, labels, None, noise)
    w = generator.mapping(latents, torch.eye(2)[labels])
    torch.testing.assert_close(generator.mean_style, 0.002 * w.mean(dim=0))
    before = generator.mean_style.clone()
    generator.eval()(latents, labels, None, noise)
    assert torch.equal(before, generator.mean_style)


def test_r1_differentiates_twice_through_trunk_and_heads() -> None:
    torch.manual_seed(3)
    trunk = SMALL.trunk(ImageShape(1, 8)).double()
    head = SMALL.projection(trunk.feature_dim, 2).double()
    images = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0])
    parameters = [*trunk.parameters(), *head.parameters()]

    def penalty() -> Tensor:
        x = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(head(trunk(x), labels).sum(), x, create_graph=True)
        return gradient.square().sum()

    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    checked = 0
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None or parameter.ndim < 2:
            continue
        direction = torch.randn_like(parameter)
        with torch.no_grad():
            parameter.add_(direction, alpha=1e-6)
        above = float(penalty().detach())
        with torch.no_grad():
            parameter.sub_(direction, alpha=2e-6)
        below = float(penalty().detach())
        with torch.no_grad():
            parameter.add_(direction, alpha=1e-6)
        expected = float((gradient * direction).sum())
        assert (above - below) / 2e-6 == pytest.approx(expected, rel=1e-3, abs=1e-6)
        checked += 1
    assert checked >= 8


def test_the_generator_learns_through_every_parameter() -> None:
    generator = SMALL.generator(GREY, 2, 4)
    images = generator(
        torch.randn(3, generator.latent_dim),
        torch.tensor([0, 1, 0]),
        torch.rand(3, 4),
        noise_planes(generator.noise_sizes, 3),
    )
    images.square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name


# The backbone as a part of a row ---------------------------------------------------------------


def test_scaling_keeps_the_specification_at_one_and_shrinks_everything_else() -> None:
    assert StyleGAN2().scaled(1.0) == StyleGAN2()
    half = StyleGAN2().scaled(0.5)
    assert (half.latent_dim, half.style_dim, half.max_channels) == (256, 256, 256)
    assert half.channels(64) == [256, 256, 256, 256, 128]
    assert StyleGAN2().channels(64) == [512, 512, 512, 512, 256]
    assert min(StyleGAN2().scaled(0.001).channels(256)) >= 1


def test_a_backbone_survives_json() -> None:
    backbone = StyleGAN2().scaled(0.25)
    assert part_from_json(json.loads(json.dumps(backbone.to_json()))) == backbone


@pytest.mark.parametrize("size", [4, 28, 33])
def test_impossible_sizes_are_named(size: int) -> None:
    (problem,) = StyleGAN2().problems(ImageShape(1, size), 2, 0)
    assert str(size) in problem
    assert StyleGAN2().problems(ImageShape(1, 64), 2, 0) == []


# Mixed precision and balance --------------------------------------------------------------------


def test_mixed_precision_stays_near_float32_and_differentiates_twice() -> None:
    torch.manual_seed(0)
    generator, trunk = SMALL.generator(GREY, 2, 0), SMALL.trunk(GREY)
    head = SMALL.projection(trunk.feature_dim, 2)
    latents, labels = torch.randn(8, generator.latent_dim), torch.tensor([0, 1] * 4)
    noise = noise_planes(generator.noise_sizes, 8)
    generator.prepare(Player.DISCRIMINATOR)
    exact = generator(latents, labels, None, noise)
    exact_logits = head(trunk(exact), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = generator(latents, labels, None, noise)
        images = exact.detach().requires_grad_()
        logits = head(trunk(images), labels)
    assert rough.dtype == torch.float32
    assert float((rough - exact).detach().std() / exact.detach().std()) < 0.05
    assert float((logits.float() - exact_logits).detach().std() / exact_logits.detach().std()) < 0.2
    assert not torch.equal(rough, exact)
    (gradient,) = torch.autograd.grad(logits.float().sum(), images, create_graph=True)
    gradient.square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in trunk.parameters() if p.grad is not None)


def test_networks_start_balanced() -> None:
    torch.manual_seed(0)
    backbone = StyleGAN2().scaled(1 / 8)
    generator, trunk = backbone.generator(GREY, 2, 0), backbone.trunk(GREY)
    noise = noise_planes(generator.noise_sizes, 16)
    with torch.no_grad():
        images = generator(torch.randn(16, generator.latent_dim), torch.arange(16) % 2, None, noise)
        features = trunk(torch.randn(16, 1, 32, 32))
    assert 0.5 < float(images.std()) < 2
    assert 0.02 < float(features.square().mean()) < 2
