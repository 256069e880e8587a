"""Layers of the residual networks and weight averages against the oracles."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from oracle_cases import cases, close, double, set_parameter

from ensgan import zoo
from ensgan.train.state import AveragedGenerator
from ensgan.types import ImageShape
from ensgan.zoo.backbones.effective import EffectiveWeights
from ensgan.zoo.backbones.resnet_layers import ConditionalBatchNorm, Linear, SelfAttention
from ensgan.zoo.backbones.spectral import SpectralNorm
from ensgan.zoo.backbones.stylegan2_layers import EqualisedLinear
from ensgan.zoo.parts import FixedAverage, HalfLifeAverage


def test_spectral_norm_step(oracles: Path) -> None:
    for case in cases(oracles, "extras", "spectral_norm_step"):
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


def test_self_attention(oracles: Path) -> None:
    for case in cases(oracles, "extras", "self_attention"):
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


def test_conditional_batch_norm(oracles: Path) -> None:
    for case in cases(oracles, "extras", "conditional_bn_train"):
        given, wanted = case["inputs"], case["expected"]
        layer = ConditionalBatchNorm(2, 3, spectral=False).double()
        set_parameter(layer.gain.weight, given["gain_W"])
        set_parameter(layer.shift.weight, given["bias_W"])
        close(layer(double(given["x"]), double(given["c"])), wanted["y"])
        close(layer.normalise.running_mean, wanted["running_mean"])
        close(layer.normalise.running_var, wanted["running_var"])


def test_average_decays(oracles: Path) -> None:
    for case in cases(oracles, "extras", "ema_decay"):
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


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_weights_made_for_a_whole_network_are_those_of_its_layers(
    channels_last: bool, together: bool
) -> None:
    """Two forwards before a backward: values, gradients, stored vectors, buffers' names."""
    shape = ImageShape(1, 32)
    backbone = zoo.get("BigGAN").scaled(1 / 16).backbone
    torch.manual_seed(0)
    plain, whole = (backbone.trunk(shape).double() for _ in range(2))
    whole.load_state_dict(plain.state_dict())
    if channels_last:
        for network in (plain, whole):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = EffectiveWeights(whole)
    images = torch.randn(4, 1, 32, 32, dtype=torch.float64)
    with weights.ahead(2) if together else nullcontext():
        outputs = []
        for _ in range(2):
            with weights.ready():
                outputs.append(whole(images))
    expected = [plain(images) for _ in range(2)]
    torch.testing.assert_close(outputs, expected)
    for made in (outputs, expected):
        (made[0].square().sum() + made[1].sum()).backward()
    for (name, one), (other, two) in zip(
        whole.named_parameters(), plain.named_parameters(), strict=True
    ):
        assert name == other
        torch.testing.assert_close(one.grad, two.grad, msg=name)
    torch.testing.assert_close(whole.state_dict(), plain.state_dict())
    whole.eval()
    torch.testing.assert_close(whole(images), plain.eval()(images))


def test_weights_move_in_their_places_when_a_state_is_loaded() -> None:
    network = zoo.get("SNGAN").scaled(1 / 32).backbone.trunk(ImageShape(1, 32))
    weights = EffectiveWeights(network)
    other = zoo.get("SNGAN").scaled(1 / 32).backbone.trunk(ImageShape(1, 32))
    network.load_state_dict(other.state_dict())
    images = torch.randn(2, 1, 32, 32)
    with weights.ready():
        made = network(images)
    torch.testing.assert_close(made, other(images))
    # Moved, tensors no longer lie side by side: still right.
    network.double()
    with weights.ready():
        again = network(images.double())
    torch.testing.assert_close(again, other.double()(images.double()))


def test_scaled_parameters_made_beforehand_are_the_same() -> None:
    torch.manual_seed(0)
    layer = EqualisedLinear(3, 4, activate=True)
    weights, inputs = EffectiveWeights(layer), torch.randn(2, 3)
    expected = layer(inputs)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), layer.weight)
    with weights.ready():
        made = layer(inputs)
    assert torch.equal(made, expected) and layer.ready == {}
    (gradient,) = torch.autograd.grad(made.sum(), layer.weight)
    assert torch.equal(gradient, expected_gradient)
