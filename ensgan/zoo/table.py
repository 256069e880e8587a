"""The standard rows: eight family heads, each other row a small change of one of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from ensgan.zoo.adversarial import Hinge, MultiHinge
from ensgan.zoo.backbones.big_resnet import BigResNet
from ensgan.zoo.backbones.resnet import ResNet
from ensgan.zoo.conditioning.classifier import AuxiliaryClassifier
from ensgan.zoo.conditioning.contrastive import D2DCE, Contrastive
from ensgan.zoo.conditioning.multihinge import MultiHingeClasses
from ensgan.zoo.conditioning.projection import Projection
from ensgan.zoo.conditioning.twins import ADC, TAC
from ensgan.zoo.optimiser import Adam, FixedAverage, Optimiser
from ensgan.zoo.registry import register
from ensgan.zoo.regularizers import FeatureMatching, InfoCode
from ensgan.zoo.spec import GANSpec


def _change(head: GANSpec, name: str, **changes: Any) -> GANSpec:
    return register(dataclasses.replace(head, name=name, **changes))


# Residual networks without weight averaging.

ACGAN_MOD = register(GANSpec("ACGAN-Mod", ResNet(), AuxiliaryClassifier(), Hinge()))
_change(ACGAN_MOD, "ACGAN-Mod-ADC", conditioning=AuxiliaryClassifier(twin=ADC()))
_change(ACGAN_MOD, "ACGAN-Mod-TAC", conditioning=AuxiliaryClassifier(twin=TAC()))

# BigGAN and its relatives.

BIGGAN = register(GANSpec("BigGAN", BigResNet(), Projection(), Hinge(), ema=FixedAverage()))
_change(BIGGAN, "BigGAN-Info", regularizers=(InfoCode(codes=1, categories=10),))

_change(BIGGAN, "ContraGAN", conditioning=Contrastive())
_change(
    BIGGAN,
    "MHGAN",
    conditioning=MultiHingeClasses(),
    adversarial=MultiHinge(),
    regularizers=(FeatureMatching(),),
)

# ReACGAN: batch 128, and learning rates √2 times as high.

_REACGAN_ADAM = Adam(learning_rate=2.8284271e-4)
REACGAN = _change(
    BIGGAN,
    "ReACGAN",
    conditioning=D2DCE(),
    optimiser=Optimiser(_REACGAN_ADAM, _REACGAN_ADAM, batch=128),
)
_change(REACGAN, "ReACGAN-ADC", conditioning=D2DCE(twin=ADC()))
_NO_MOMENTUM = dataclasses.replace(_REACGAN_ADAM, betas=(0.0, 0.999))
_change(
    REACGAN,
    "ReACGAN-Info",
    regularizers=(InfoCode(codes=10, categories=10),),
    optimiser=Optimiser(_NO_MOMENTUM, _NO_MOMENTUM, batch=128),
)
_change(
    REACGAN,
    "ReACGAN-TAC",
    conditioning=D2DCE(twin=TAC(discriminator_weight=0.5, generator_weight=0.5)),
)

SAGAN = register(
    GANSpec(
        "SAGAN",
        ResNet(spectral_generator=True, spectral_discriminator=True, attention=True),
        Projection(),
        Hinge(),
    )
)
SNGAN = register(GANSpec("SNGAN", ResNet(spectral_discriminator=True), Projection(), Hinge()))
