"""What a row costs: parameters and training memory, without training it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ensgan.types import ImageShape
from ensgan.zoo.backbones.base import Backbone
from ensgan.zoo.build import count_parameters
from ensgan.zoo.optimiser import NoAverage
from ensgan.zoo.spec import GANSpec

_FLOAT_BYTES = 4
_ADAM_COPIES = 4
"""Weight, gradient and Adam's two moments."""


@dataclass(frozen=True)
class Footprint:
    """Sizes of a row at a batch.

    Attributes:
        generator_parameters, discriminator_parameters: trainable, InfoGAN head in the latter.
        training_bytes: estimated peak of training in float32: weights with gradients and Adam,
            the averaged copy, and the activations kept for one backward pass.
    """

    generator_parameters: int
    discriminator_parameters: int
    training_bytes: int


def footprint(
    spec: GANSpec, shape: ImageShape, num_classes: int, *, batch: int | None = None
) -> Footprint:
    """Measure a row: parameters on the meta device, activations on narrow copies of it.

    Activations grow with the number of channels in a straight line, so two small forward passes
    tell those of the full width (tracing the full one on the meta device takes seconds a row).

    Args:
        spec: the row.
        shape, num_classes: of the data.
        batch: instead of the row's own.

    Raises:
        ConfigError: the row breaks a rule for this data.
    """
    batch = batch or spec.optimiser.batch
    made, judged = count_parameters(spec, shape, num_classes)
    make = _generator_activations(spec.backbone, shape, num_classes, spec.code_dim)
    judge = _trunk_activations(spec.backbone, shape)
    copies = _ADAM_COPIES + (0 if isinstance(spec.ema, NoAverage) else 1)
    floats = copies * made + _ADAM_COPIES * judged
    floats += made + judged  # weights as they are used: normalised or modulated
    floats += batch * max(2 * judge, make + judge)
    return Footprint(made, judged, floats * _FLOAT_BYTES)


# Rows share backbones, so each is measured once. Heads are too small to count.


def _generator_inputs(
    backbone: Backbone, shape: ImageShape, num_classes: int, code_dim: int, batch: int
) -> tuple[Any, ...]:
    """A generator and what its forward takes."""
    generator = backbone.generator(shape, num_classes, code_dim)
    return (
        generator,
        torch.zeros(batch, generator.latent_dim),
        torch.zeros(batch, dtype=torch.int64),
        torch.zeros(batch, code_dim) if code_dim else None,
        [torch.zeros(batch, 1, size, size) for size in generator.noise_sizes],
    )


_SAMPLED_WIDTHS = (1 / 16, 1 / 8)
_BATCHES = (2, 4)


@functools.lru_cache
def _generator_activations(
    backbone: Backbone, shape: ImageShape, num_classes: int, code_dim: int
) -> int:
    """Numbers kept for the backward pass, an image."""

    def kept(sized: Backbone, batch: int) -> int:
        return _kept_floats(*_generator_inputs(sized, shape, num_classes, code_dim, batch))

    return _at_full_width(backbone, shape, kept)


@functools.lru_cache
def _trunk_activations(backbone: Backbone, shape: ImageShape) -> int:
    def kept(sized: Backbone, batch: int) -> int:
        images = torch.zeros(batch, shape.channels, shape.size, shape.size)
        return _kept_floats(sized.trunk(shape), images)

    return _at_full_width(backbone, shape, kept)


def _at_full_width(
    backbone: Backbone, shape: ImageShape, kept: Callable[[Backbone, int], int]
) -> int:
    """What an image adds to ``kept(backbone, batch)``, from two narrow copies of the backbone."""
    copies = [backbone.scaled(width) for width in _SAMPLED_WIDTHS]
    with torch.device("meta"):
        narrow, wide, full = (each.trunk(shape).feature_dim for each in (*copies, backbone))
    small, large = _BATCHES

    def per_image(sized: Backbone) -> float:
        with torch.random.fork_rng(devices=[]):
            return (kept(sized, large) - kept(sized, small)) / (large - small)

    if not narrow < wide < full:
        return round(per_image(backbone))
    low, high = (per_image(copy) for copy in copies)
    return round(low + (high - low) * (full - narrow) / (wide - narrow))


def _kept_floats(module: nn.Module, *inputs: object) -> int:
    """How many numbers autograd keeps for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[id(tensor)] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = module(*inputs)
    total = sum(kept.values())
    del result
    return total
