"""Parameter counts of every row, added up from the specification's text (``gan_zoo.md`` 2)."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from ensgan import zoo
from ensgan.types import ImageShape

GREY = ImageShape(1, 32)
RESIDUAL = [name for name in zoo.names() if not name.startswith("StyleGAN2")]
STYLE = [name for name in zoo.names() if name.startswith("StyleGAN2")]
RES_NETS = ("SNGAN", "SAGAN", "ACGAN-Mod", "ACGAN-Mod-ADC", "ACGAN-Mod-TAC")

# Channels as multiples of the base width along G's blocks and along D's, and D's halvings.
G_WIDTHS = {32: (4, 4, 4, 4), 64: (16, 8, 4, 2, 1)}
D_WIDTHS = {32: (2, 2, 2, 2), 64: (1, 2, 4, 8, 16)}
HALVINGS = {32: 2, 64: 4}


@pytest.mark.parametrize("name", zoo.names())
def test_counts_of_the_reference(oracles: Path, name: str) -> None:
    oracle = json.loads((oracles / "param_counts.json").read_text())["gans"][name]
    expected = tuple(oracle[part]["trainable_params"] for part in ("generator", "discriminator"))
    assert zoo.count_parameters(zoo.get(name), GREY, 2) == expected
    assert counted(name, GREY, 2) == expected


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 7), (3, 20)])
@pytest.mark.parametrize("name", zoo.names())
def test_counts_from_the_text(name: str, channels: int, classes: int, size: int) -> None:
    shape = ImageShape(channels, size)
    assert zoo.count_parameters(zoo.get(name), shape, classes) == counted(name, shape, classes)


@pytest.mark.parametrize("name", STYLE)
def test_stylegan2_counts_at_128(name: str) -> None:
    shape = ImageShape(3, 128)
    assert zoo.count_parameters(zoo.get(name), shape, 7) == counted(name, shape, 7)


def counted(name: str, shape: ImageShape, classes: int) -> tuple[int, int]:
    """Parameters of G and of D by the text."""
    if name.startswith("StyleGAN2"):
        return style_counts(name, shape, classes)
    return residual_counts(name, shape, classes)


def linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def conv3(inputs: int, outputs: int) -> int:
    return (9 * inputs + 1) * outputs


# ResNet and BigResNet --------------------------------------------------------------------------


def residual_counts(name: str, shape: ImageShape, classes: int) -> tuple[int, int]:
    big = name not in RES_NETS
    base = 96 if big else 64
    g_widths = [base * multiple for multiple in G_WIDTHS[shape.size]]
    d_widths = [base * multiple for multiple in D_WIDTHS[shape.size]]
    attention, norms = big or name == "SAGAN", name.startswith("ACGAN")
    codes = {"BigGAN-Info": 10, "ReACGAN-Info": 100}.get(name, 0)
    if big:
        chunk = 80 // len(g_widths)
        condition = 128 + chunk + (128 if codes else 0)
        generator = residual_generator(g_widths, condition, chunk, shape.channels, attention)
        generator += 128 * classes + (linear(codes, 128) if codes else 0)
    else:
        generator = residual_generator(g_widths, classes, 128, shape.channels, attention)
    trunk = residual_trunk(d_widths, HALVINGS[shape.size], shape.channels, attention, norms)
    feature_dim = d_widths[-1]
    heads = residual_heads(name, feature_dim, classes) + codes * feature_dim
    return generator, trunk + heads


def residual_heads(name: str, dim: int, classes: int) -> int:
    """Heads of D on ``dim`` features, without the InfoGAN head."""
    targets = 2 * classes if name.endswith("-ADC") else classes
    classifiers = 2 if name.endswith("-TAC") else 1
    if name == "MHGAN":
        return linear(dim, classes + 1)
    if name.startswith("ACGAN"):
        return linear(dim, 1) + classifiers * targets * dim
    if name.startswith(("ReACGAN", "ContraGAN")):
        return linear(dim, 1) + classifiers * (linear(dim, 512) + targets * 512)
    return linear(dim, 1) + classes * dim  # projection


def residual_generator(
    widths: list[int], condition: int, input_dim: int, channels: int, attention: bool
) -> int:
    total = linear(input_dim, widths[0] * 16)
    for inputs, outputs in pairwise(widths):
        total += 2 * condition * (inputs + outputs)  # gains and shifts of two norms
        total += conv3(inputs, outputs) + conv3(outputs, outputs) + linear(inputs, outputs)
    if attention:
        total += attention_size(widths[2])
    return total + 2 * widths[-1] + conv3(widths[-1], channels)


def attention_size(width: int) -> int:
    return 2 * width * (width // 8) + 2 * width * (width // 2) + 1


def residual_trunk(
    widths: list[int], halvings: int, channels: int, attention: bool, norms: bool
) -> int:
    total, inputs = 0, channels
    for index, outputs in enumerate(widths):
        total += conv3(inputs, outputs) + conv3(outputs, outputs)
        learned = index < halvings or inputs != outputs
        total += linear(inputs, outputs) if learned else 0
        if norms:
            total += 2 * outputs + (2 * inputs if index else 0) + (2 * inputs if learned else 0)
        inputs = outputs
    return total + (attention_size(widths[0]) if attention else 0)


# StyleGAN2 -------------------------------------------------------------------------------------


def style_counts(name: str, shape: ImageShape, classes: int) -> tuple[int, int]:
    sizes = [4]
    while sizes[-1] < shape.size:
        sizes.append(2 * sizes[-1])
    widths = [min(16384 // size, 512) for size in sizes]
    codes = 100 if name == "StyleGAN2-Info" else 0
    heads = codes * 512
    if name == "StyleGAN2-D2DCE":
        heads += linear(512, 1) + linear(512, 512) + class_map(classes, layers=1)
    else:
        heads += linear(512, 512) + class_map(classes, layers=8)
    return (
        style_generator(widths, shape.channels, classes, codes),
        style_trunk(widths, shape.channels) + heads,
    )


def class_map(classes: int, layers: int) -> int:
    return linear(classes, 512) + layers * linear(512, 512)


def style_generator(widths: list[int], channels: int, classes: int, codes: int) -> int:
    total = linear(classes, 512) + linear(1024 + codes, 512) + linear(512, 512)
    total += 16 * widths[0]
    layers = [(widths[0], widths[0])]
    for before, after in pairwise(widths):
        layers += [(before, after), (after, after)]
    # Style, weight, bias, strength of the noise.
    total += sum(linear(512, i) + 9 * i * o + o + 1 for i, o in layers)
    return total + sum(linear(512, width) + linear(width, channels) for width in widths)


def style_trunk(widths: list[int], channels: int) -> int:
    total = linear(channels, widths[-1])
    for after, before in pairwise(widths):
        total += conv3(before, before) + conv3(before, after)
    last = widths[0]
    return total + conv3(last + 1, last) + linear(16 * last, last)
