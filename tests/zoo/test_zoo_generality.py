"""Every row at other sizes, channels and class counts; data without classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ensgan import zoo
from ensgan.errors import ConfigError
from ensgan.train import TrainSettings
from ensgan.train.state import Record
from ensgan.train.training import Training, full_step
from ensgan.types import ImageShape, Samples
from ensgan.zoo.build import sample

HEADS = ("SNGAN", "ACGAN-Mod", "BigGAN-ADA", "ReACGAN-ADC", "StyleGAN2-D2DCE")
NEEDS_CLASSES = {
    name
    for name in zoo.names()
    if name.startswith(("ACGAN", "ReACGAN", "ContraGAN")) or name == "StyleGAN2-D2DCE"
}
"""Rows whose discriminator classifies: a loss over one class says nothing."""


def one_step(name: str, shape: ImageShape, classes: int, width: float = 1 / 32) -> None:
    """Train a step and make images; everything stays finite."""
    rng = np.random.default_rng(0)
    n = 6
    images = rng.integers(0, 256, shape.array_shape(n), dtype=np.uint8)
    reals = Samples(images, np.arange(n, dtype=np.int64) % classes)
    settings = TrainSettings(1, 1, seed=0, batch=3, d_updates=1, ema_start=0, ema_decay=0.5)
    training = Training(zoo.get(name).scaled(width), reals, classes, settings)
    full_step(training, Record(name))
    for parameter in (*training.generator.parameters(), *training.discriminator.parameters()):
        assert bool(torch.isfinite(parameter).all())
    labels = np.array([0, classes - 1], np.int64)
    made = sample(training.average.generator, labels, seed=1)
    assert made.shape == shape.array_shape(2) and made.dtype == np.uint8


@pytest.mark.parametrize("name", HEADS)
def test_64_pixels_rgb_and_twenty_classes(name: str) -> None:
    one_step(name, ImageShape(3, 64), 20)


@pytest.mark.parametrize("name", zoo.names())
def test_data_without_classes(name: str) -> None:
    shape = ImageShape(1, 32)
    if name not in NEEDS_CLASSES:
        one_step(name, shape, 1)
        return
    with pytest.raises(ConfigError, match="needs at least 2 classes, the data has 1"):
        zoo.build_discriminator(zoo.get(name), shape, 1, 0)


def test_128_pixels_and_sizes_that_do_not_fit() -> None:
    one_step("StyleGAN2", ImageShape(1, 128), 2, width=1 / 64)
    for name, size in (("SNGAN", 28), ("BigGAN", 256), ("StyleGAN2", 48)):
        assert zoo.get(name).problems(ImageShape(1, size), 2)


@pytest.mark.parametrize("name", ["SNGAN", "BigGAN", "StyleGAN2"])
def test_no_channels_and_no_classes_are_refused_at_once(name: str) -> None:
    with pytest.raises(ConfigError, match=r"(?s)1 channel, not 0.*1 class, not 0"):
        zoo.build_generator(zoo.get(name).scaled(1 / 32), ImageShape(0, 32), 0, 0)


@pytest.mark.parametrize(
    ("size", "channels", "classes"), [(32, 3, 20), (64, 1, 2), (64, 3, 7), (64, 1, 1)]
)
@pytest.mark.parametrize("name", zoo.names())
def test_every_row_at_every_size(name: str, size: int, channels: int, classes: int) -> None:
    if classes == 1 and name in NEEDS_CLASSES:
        pytest.skip("needs classes")
    one_step(name, ImageShape(channels, size), classes)


@pytest.mark.parametrize("name", [name for name in zoo.names() if name.startswith("StyleGAN2")])
def test_every_stylegan2_at_128(name: str) -> None:
    one_step(name, ImageShape(3, 128), 3, width=1 / 64)
