"""StyleGAN2's networks, and the backbone as a part of a row."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from ensgan.types import ImageShape
from ensgan.zoo.backbones import Player
from ensgan.zoo.backbones.stylegan2 import StyleGAN2
from ensgan.zoo.parts import part_from_json

GREY = ImageShape(1, 32)
SMALL = StyleGAN2().scaled(1 / 64)


def noise_planes(sizes: tuple[int, ...], batch: int, seed: int = 0) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 1, size, size, generator=source) for size in sizes]


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


def test_scaling_keeps_the_specification_at_one_and_shrinks_everything_else() -> None:
    assert StyleGAN2().scaled(1.0) == StyleGAN2()
    half = StyleGAN2().scaled(0.5)
    assert (half.latent_dim, half.style_dim, half.max_channels) == (256, 256, 256)
    assert half.channels(64) == [256, 256, 256, 256, 128]
    assert StyleGAN2().channels(64) == [512, 512, 512, 512, 256]
    assert min(StyleGAN2().scaled(0.001).channels(256)) >= 1


def test_a_backbone_survives_json() -> None:
    backbone = StyleGAN2().scaled(0.25)
    assert part_from_json(json.loads(json.dumps(backbone.to_json())), StyleGAN2) == backbone


@pytest.mark.parametrize("size", [4, 28, 33])
def test_impossible_sizes_are_named(size: int) -> None:
    (problem,) = StyleGAN2().problems(ImageShape(1, size), 2, 0)
    assert str(size) in problem
    assert StyleGAN2().problems(ImageShape(1, 64), 2, 0) == []


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
