"""From a row and the data's shape to networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ensgan.errors import ConfigError
from ensgan.types import ImageShape
from ensgan.zoo.backbones.base import Generator
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
    with torch.device("meta"):
        generator = build_generator(spec, shape, num_classes, 0)
        discriminator = build_discriminator(spec, shape, num_classes, 0)
    return (
        sum(parameter.numel() for parameter in generator.parameters()),
        sum(parameter.numel() for parameter in discriminator.parameters()),
    )


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
