"""A GAN as a row of parts, and the rows known by name: ours, those of packages and plugin files.

Eight rows are family heads, each other row is a small change of one of them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import ensgan.registry as plugins
from ensgan.errors import InputError
from ensgan.inputs import field_problems
from ensgan.registry import Registry
from ensgan.types import ImageShape
from ensgan.zoo.augment import ADA, Augmentation, DiffAugment, NoAugment
from ensgan.zoo.backbones import Backbone
from ensgan.zoo.backbones.resnet import BigResNet, ResNet
from ensgan.zoo.backbones.stylegan2 import StyleGAN2
from ensgan.zoo.class_losses import D2DCE, AuxiliaryClassifier, Contrastive
from ensgan.zoo.conditioning import ADC, TAC, Conditioning, MultiHingeClasses, Projection
from ensgan.zoo.losses import (
    R1,
    Adversarial,
    FeatureMatching,
    Hinge,
    InfoCode,
    Logistic,
    MultiHinge,
    Regularizer,
)
from ensgan.zoo.parts import (
    Adam,
    FixedAverage,
    HalfLifeAverage,
    NoAverage,
    Optimiser,
    Part,
    WeightAverage,
    part_from_json,
    register_part,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(~[A-Za-z0-9._+-]+)?")


@register_part
class GANSpec(Part):
    """One GAN. Channels, image size and classes come from the data set.

    Attributes:
        name: letters, digits, ``.``, ``_``, ``+``, ``-``; a sweep's variation of a row has its
            name behind a ``~``.
        backbone: the networks.
        conditioning: how the discriminator uses labels.
        adversarial: the loss pair.
        regularizers: further terms.
        augmentation: of reals and fakes before the discriminator.
        optimiser: rates, batch, order of updates.
        ema: how the generator's weights are averaged for sampling.

    Raises:
        InputError: the name cannot be used in file names, or a part is of the wrong kind.
    """

    name: str
    backbone: Backbone
    conditioning: Conditioning
    adversarial: Adversarial = field(default_factory=Hinge)
    regularizers: tuple[Regularizer, ...] = ()
    augmentation: Augmentation = field(default_factory=NoAugment)
    optimiser: Optimiser = field(default_factory=Optimiser)
    ema: WeightAverage = field(default_factory=NoAverage)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise InputError(
                f"'{self.name}' is not a GAN name: use letters, digits, '.', '_', '+' and '-'"
            )
        if problems := field_problems(self):
            raise InputError(f"{self.name}: {'; '.join(problems)}")

    @property
    def info_code(self) -> InfoCode | None:
        """The InfoGAN part, if the row has one."""
        found = [part for part in self.regularizers if isinstance(part, InfoCode)]
        return found[0] if found else None

    @property
    def code_dim(self) -> int:
        """Length of the one-hot InfoGAN codes, 0 without."""
        return self.info_code.code_dim if self.info_code else 0

    def scaled(self, width: float) -> GANSpec:
        """The row with every channel count, embedding and mapping width times ``width``.

        Raises:
            InputError: ``width`` is not positive.
        """
        if not width > 0:
            raise InputError(f"width must be a positive number, not {width}")
        if width == 1:
            return self
        return dataclasses.replace(
            self,
            backbone=self.backbone.scaled(width),
            conditioning=self.conditioning.scaled(width),
        )

    def problems(self, shape: ImageShape, num_classes: int) -> list[str]:
        """Every rule the row breaks for this data, one sentence each."""
        problems = [
            *self.broken_rules(),
            *self.backbone.problems(shape, num_classes, self.code_dim),
            *self.conditioning.problems(num_classes),
        ]
        if shape.channels < 1:
            problems.append(f"images need at least 1 channel, not {shape.channels}")
        if num_classes < 1:
            problems.append(f"a data set has at least 1 class, not {num_classes}")
        multi_head = isinstance(self.conditioning, MultiHingeClasses)
        if multi_head != isinstance(self.adversarial, MultiHinge):
            problems.append(
                "the MultiHinge loss and the MultiHingeClasses conditioning need each other, not "
                f"{type(self.adversarial).__name__} with {type(self.conditioning).__name__}"
            )
        if multi_head and type(self.augmentation).observe is not Augmentation.observe:
            problems.append(
                f"{type(self.augmentation).__name__} watches one real/fake logit per image, the "
                "multi-hinge head has K + 1"
            )
        if sum(isinstance(part, InfoCode) for part in self.regularizers) > 1:
            problems.append("a row takes one InfoCode: give it more codes instead of repeating it")
        return problems

    @classmethod
    def from_json(cls, value: object) -> GANSpec:
        """Read what :meth:`to_json` wrote; only registered parts, never code.

        Raises:
            InputError: unknown part or field, or a part of the wrong kind.
        """
        return part_from_json(value, cls)


def _own_name(row: GANSpec) -> str:
    if "~" in row.name:
        raise InputError(f"'{row.name}' is no GAN name: what stands behind '~' is a variation's")
    return row.name


gans = Registry("GAN", "ensgan.gans", GANSpec, name_of=_own_name)


register, names, get = gans.register, gans.names, gans.get


def load_plugin(path: Path, others: Sequence[Registry[Any]] = ()) -> tuple[str, ...]:
    """Run a user's Python file that calls :func:`register`; the names it added.

    See :func:`ensgan.registry.load_plugin`; ``others`` take what the file defines of their kind.
    """
    return plugins.load_plugin(path, (gans, *others))


def _change(head: GANSpec, name: str, **changes: Any) -> GANSpec:
    return register(dataclasses.replace(head, name=name, **changes))


# Residual networks without weight averaging.

SNGAN = register(GANSpec("SNGAN", ResNet(spectral_discriminator=True), Projection(), Hinge()))
SAGAN = register(
    GANSpec(
        "SAGAN",
        ResNet(spectral_generator=True, spectral_discriminator=True, attention=True),
        Projection(),
        Hinge(),
    )
)


ACGAN_MOD = register(GANSpec("ACGAN-Mod", ResNet(), AuxiliaryClassifier(), Hinge()))


_change(ACGAN_MOD, "ACGAN-Mod-ADC", conditioning=AuxiliaryClassifier(twin=ADC()))


_change(ACGAN_MOD, "ACGAN-Mod-TAC", conditioning=AuxiliaryClassifier(twin=TAC()))


# BigGAN and its relatives. ADA comes with the logistic loss.

BIGGAN = register(GANSpec("BigGAN", BigResNet(), Projection(), Hinge(), ema=FixedAverage()))


_change(BIGGAN, "BigGAN-ADA", augmentation=ADA(target=0.6), adversarial=Logistic())


_change(BIGGAN, "BigGAN-DiffAug", augmentation=DiffAugment())


_change(BIGGAN, "BigGAN-Info", regularizers=(InfoCode(codes=1, categories=10),))


CONTRAGAN = _change(BIGGAN, "ContraGAN", conditioning=Contrastive())
MHGAN = _change(
    BIGGAN,
    "MHGAN",
    conditioning=MultiHingeClasses(),
    adversarial=MultiHinge(),
    regularizers=(FeatureMatching(),),
)


# ReACGAN: batch 128, and learning rates √2 times as high. The Info row has no momentum.

_REACGAN_ADAM = Adam(learning_rate=2.8284271e-4)
_REACGAN_ADAM_INFO = dataclasses.replace(_REACGAN_ADAM, betas=(0.0, 0.999))
REACGAN = _change(
    BIGGAN,
    "ReACGAN",
    conditioning=D2DCE(),
    optimiser=Optimiser(_REACGAN_ADAM, _REACGAN_ADAM, batch=128),
)


_change(REACGAN, "ReACGAN-ADA", augmentation=ADA(target=0.7), adversarial=Logistic())


_change(REACGAN, "ReACGAN-ADC", conditioning=D2DCE(twin=ADC()))


_change(REACGAN, "ReACGAN-DiffAug", augmentation=DiffAugment())


_change(
    REACGAN,
    "ReACGAN-Info",
    regularizers=(InfoCode(codes=10, categories=10),),
    optimiser=Optimiser(_REACGAN_ADAM_INFO, _REACGAN_ADAM_INFO, batch=128),
)


_change(
    REACGAN,
    "ReACGAN-TAC",
    conditioning=D2DCE(twin=TAC(discriminator_weight=0.5, generator_weight=0.5)),
)


# StyleGAN2. Lazy regularisation every k updates takes rate and betas to the power k/(k + 1).


def _lazy_adam(every: int) -> Adam:
    share = every / (every + 1)
    return Adam(learning_rate=0.0025 * share, betas=(0.0, 0.99**share), eps=1e-8)


_STYLEGAN2_OPTIMISER = Optimiser(
    _lazy_adam(4), _lazy_adam(16), batch=64, d_updates_per_step=1, d_first=False
)


STYLEGAN2 = register(
    GANSpec(
        "StyleGAN2",
        StyleGAN2(),
        Projection(),
        Logistic(),
        regularizers=(R1(weight=0.01, every=16),),
        optimiser=_STYLEGAN2_OPTIMISER,
        ema=HalfLifeAverage(),
    )
)


_change(STYLEGAN2, "StyleGAN2-ADA", augmentation=ADA(target=0.6))


_change(
    STYLEGAN2,
    "StyleGAN2-D2DCE",
    conditioning=D2DCE(weight=0.25, temperature=0.25),
    optimiser=dataclasses.replace(_STYLEGAN2_OPTIMISER, d_updates_per_step=2),
)


_change(STYLEGAN2, "StyleGAN2-DiffAug", augmentation=DiffAugment())


_change(
    STYLEGAN2,
    "StyleGAN2-Info",
    regularizers=(R1(weight=0.01, every=16), InfoCode(codes=10, categories=10)),
)
