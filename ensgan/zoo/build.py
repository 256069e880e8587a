"""From a row and the data's shape to networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import nn

from ensgan.errors import ConfigError
from ensgan.types import ImageShape
from ensgan.zoo.backbones.base import Backbone, Generator
from ensgan.zoo.discriminator import Discriminator
from ensgan.zoo.spec import GANSpec


def check(spec: GANSpec, shape: ImageShape, num_classes: int) -> None:
    """Refuse a row that breaks a rule for this data.

    Raises:
        ConfigError: with every broken rule.
    """
    problems = spec.problems(shape, num_classes)
    if problems:
        raise ConfigError(f"GAN {spec.name}", problems)


def build_generator(
    spec: GANSpec, shape: ImageShape, num_classes: int, seed: int | torch.Generator
) -> Generator:
    """A freshly initialised generator on the CPU; equal seeds give equal weights.

    Raises:
        ConfigError: the row breaks a rule for this data.
    """
    check(spec, shape, num_classes)
    with _seeded(seed):
        generator = spec.backbone.generator(shape, num_classes, spec.code_dim)
    if spec.info_code is not None:
        generator.code_sizes = (spec.info_code.categories,) * spec.info_code.codes
    return generator


def build_discriminator(
    spec: GANSpec, shape: ImageShape, num_classes: int, seed: int | torch.Generator
) -> Discriminator:
    """A freshly initialised discriminator on the CPU; equal seeds give equal weights.

    Raises:
        ConfigError: the row breaks a rule for this data.
    """
    check(spec, shape, num_classes)
    with _seeded(seed):
        trunk = spec.backbone.trunk(shape)
        head = spec.conditioning.head(spec.backbone, trunk.feature_dim, num_classes)
        code_head = (
            spec.backbone.linear(trunk.feature_dim, spec.code_dim, bias=False)
            if spec.code_dim
            else None
        )
    return Discriminator(trunk, head, code_head)


def count_parameters(spec: GANSpec, shape: ImageShape, num_classes: int) -> tuple[int, int]:
    """Trainable parameters of the generator and of the discriminator (InfoGAN head included).

    Nothing is allocated.

    Raises:
        ConfigError: the row breaks a rule for this data.
    """
    check(spec, shape, num_classes)
    trunk, feature_dim = _trunk_size(spec.backbone, shape)
    with torch.device("meta"):
        heads: list[nn.Module] = [spec.conditioning.head(spec.backbone, feature_dim, num_classes)]
        if spec.code_dim:
            heads.append(spec.backbone.linear(feature_dim, spec.code_dim, bias=False))
    return (
        _generator_size(spec.backbone, shape, num_classes, spec.code_dim),
        trunk + sum(_size(head) for head in heads),
    )


# Rows share backbones, so each is built once.


@lru_cache
def _generator_size(backbone: Backbone, shape: ImageShape, num_classes: int, code_dim: int) -> int:
    with torch.device("meta"):
        return _size(backbone.generator(shape, num_classes, code_dim))


@lru_cache
def _trunk_size(backbone: Backbone, shape: ImageShape) -> tuple[int, int]:
    """Parameters of a trunk, and the length of its features."""
    with torch.device("meta"):
        trunk = backbone.trunk(shape)
    return _size(trunk), trunk.feature_dim


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@contextmanager
def _seeded(seed: int | torch.Generator) -> Iterator[None]:
    """Let torch's default CPU generator follow ``seed`` for a while; its state is put back."""
    if isinstance(seed, torch.Generator):
        device = seed.device
        seed = int(torch.randint(2**62, (), generator=seed, device=device))
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.default_generator.set_state(state)
