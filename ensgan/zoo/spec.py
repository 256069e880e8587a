"""A GAN as a row of parts, and the rules that make a row legal."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field

from ensgan.errors import InputError
from ensgan.inputs import field_problems
from ensgan.types import ImageShape
from ensgan.zoo.augment import Augmentation, NoAugment
from ensgan.zoo.backbones import Backbone
from ensgan.zoo.conditioning import Conditioning
from ensgan.zoo.conditioning.classifier import MultiHingeClasses
from ensgan.zoo.losses import Adversarial, Hinge, InfoCode, MultiHinge, Regularizer
from ensgan.zoo.optimiser import NoAverage, Optimiser, WeightAverage
from ensgan.zoo.parts import Part, part_from_json, register_part

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(~[A-Za-z0-9._+-]+)?")


@register_part
@dataclass(frozen=True)
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
