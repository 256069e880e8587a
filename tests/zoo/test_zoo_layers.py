"""Layers of the residual networks and weight averages against the oracles."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from oracles import cases, close, double, set_parameter

from ensgan import zoo
from ensgan.train.updates import AveragedGenerator
from ensgan.types import ImageShape
from ensgan.zoo.backbones.effective import SpectralNorm
from ensgan.zoo.backbones.layers import ConditionalBatchNorm, Linear, SelfAttention
from ensgan.zoo.optimiser import FixedAverage, HalfLifeAverage


def test_spectral_norm_step(shared: Path) -> None:
    for case in cases(shared, "extras", "spectral_norm_step"):
        weight = double(case["inputs"]["W"])
        layer = SpectralNorm(weight).double()
        layer.u.copy_(double(case["inputs"]["u"]))
        close(layer(weight), case["expected"]["W_effective"])
        close(layer.u, case["expected"]["u_new"])
        close(layer.v, case["expected"]["v_new"])
        before = layer.u.clone()
        layer.eval()
        layer(weight)
        assert torch.equal(layer.u, before)


def test_spectral_norm_gradient_flows_through_sigma_only() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    layer = SpectralNorm(weight).double()
    layer(weight).sum().backward()
    u, v = layer.u, layer.v
    sigma = float(u @ weight.detach() @ v)
    total = float(weight.detach().sum())
    expected = torch.ones(3, 4, dtype=torch.float64) / sigma - total / sigma**2 * torch.outer(u, v)
    torch.testing.assert_close(weight.grad, expected)


def test_self_attention(shared: Path) -> None:
    for case in cases(shared, "extras", "self_attention"):
        given = case["inputs"]
        layer = SelfAttention(8, spectral=False).double()
        for name, conv in (
            ("theta", layer.query),
            ("phi", layer.key),
            ("g", layer.value),
            ("attn", layer.output),
        ):
            set_parameter(conv.weight[:, :, 0, 0], given[name])
        set_parameter(layer.gamma, given["gamma"])
        close(layer(double(given["x"])), case["expected"]["y"])


def test_conditional_batch_norm(shared: Path) -> None:
    for case in cases(shared, "extras", "conditional_bn_train"):
        given, wanted = case["inputs"], case["expected"]
        layer = ConditionalBatchNorm(2, 3, spectral=False).double()
        set_parameter(layer.gain.weight, given["gain_W"])
        set_parameter(layer.shift.weight, given["bias_W"])
        close(layer(double(given["x"]), double(given["c"])), wanted["y"])
        close(layer.normalise.running_mean, wanted["running_mean"])
        close(layer.normalise.running_var, wanted["running_var"])


def test_average_decays(shared: Path) -> None:
    for case in cases(shared, "extras", "ema_decay"):
        step, batch = case["inputs"]["step"], case["inputs"]["batch"]
        wanted = case["expected"]
        close(HalfLifeAverage().decay(step, batch), wanted["stylegan2_decay"][0][0])
        close(FixedAverage().decay(step, batch), wanted["biggan_decay"][0][0])


def test_an_averaged_generator_divides_by_the_whole_norm() -> None:
    """Means of power-iteration vectors are shorter than 1; what they divide by must not be."""
    torch.manual_seed(0)
    spec = zoo.get("BigGAN").scaled(1 / 32)
    generator = zoo.build_generator(spec, ImageShape(1, 32), 2, 0)
    average = AveragedGenerator(generator, FixedAverage(0.9, start=0), batch=2)
    layer, averaged = generator.input, average.generator.input
    assert isinstance(layer, Linear) and isinstance(averaged, Linear)
    noise = 0.05 * torch.randn_like(layer.weight)
    for step in range(30):  # the largest direction turns faster than the average follows
        with torch.no_grad():
            layer.weight.copy_(noise)
            layer.weight[:2, 0] += 3 * torch.tensor([math.cos(step / 5), math.sin(step / 5)])
        layer(torch.randn(2, layer.in_features))
        average.update(step)
    assert float(averaged.normalise.u.norm()) < 0.8
    normalised = averaged.normalise(averaged.weight).detach()
    assert float(torch.linalg.matrix_norm(normalised, 2)) < 1.05
    averaged.normalise.u.mul_(0.5)
    torch.testing.assert_close(averaged.normalise(averaged.weight).detach(), normalised)
