"""The GANs known by name: the standard rows, those of installed packages, plugin files.

Eight rows are family heads, each other row is a small change of one of them.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ensgan.errors import InputError
from ensgan.files import sha256_file
from ensgan.inputs import run_python
from ensgan.registry import Registry
from ensgan.zoo.augment.ada import ADA
from ensgan.zoo.augment.diffaug import DiffAugment
from ensgan.zoo.backbones.resnet import BigResNet, ResNet
from ensgan.zoo.backbones.stylegan2 import StyleGAN2
from ensgan.zoo.conditioning.classifier import (
    ADC,
    TAC,
    AuxiliaryClassifier,
    MultiHingeClasses,
    Projection,
)
from ensgan.zoo.conditioning.contrastive import D2DCE, Contrastive
from ensgan.zoo.losses import R1, FeatureMatching, Hinge, InfoCode, Logistic, MultiHinge
from ensgan.zoo.optimiser import Adam, FixedAverage, HalfLifeAverage, Optimiser
from ensgan.zoo.spec import GANSpec


def _own_name(row: GANSpec) -> str:
    if "~" in row.name:
        raise InputError(f"'{row.name}' is no GAN name: what stands behind '~' is a variation's")
    return row.name


gans = Registry("GAN", "ensgan.gans", GANSpec, name_of=_own_name)
register, names, get = gans.register, gans.names, gans.get
_plugins: dict[str, tuple[str, ...]] = {}


def load_plugin(path: Path, others: Sequence[Registry[Any]] = ()) -> tuple[str, ...]:
    """Run a user's Python file that calls :func:`register`; the names it added.

    Loading the same file again changes nothing.

    Args:
        others: further registries, which take what the file defines of their kind.

    Raises:
        InputError: the file is missing, fails, or registers nothing; nothing is added then.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise InputError(f"no such plugin file: {path}")
    key = sha256_file(path)
    if key in _plugins:
        return _plugins[key]
    registries = (gans, *others)
    before = [set(registry.names()) for registry in registries]

    def added(place: int) -> list[str]:
        return [name for name in registries[place].names() if name not in before[place]]

    try:
        module = run_python(path, _module_name(key))
        for value in list(vars(module).values()):
            for registry in others:
                registry.adopt(value)
    except (Exception, SystemExit) as error:
        for place, registry in enumerate(registries):
            registry.forget(added(place))
        sys.modules.pop(_module_name(key), None)
        raise InputError(f"plugin {path} failed: {type(error).__name__}: {error}") from error
    names = tuple(name for place in range(len(registries)) for name in added(place))
    if not names:
        kinds = " or ".join(registry.kind for registry in registries)
        raise InputError(
            f"plugin {path} registers no {kinds}: call ensgan.zoo.register(GANSpec(…)), for example"
        )
    _plugins[key] = names
    return names


def plugin_module(path: Path) -> ModuleType:
    """The module of a file that :func:`load_plugin` has run."""
    return sys.modules[_module_name(sha256_file(path))]


def _module_name(key: str) -> str:
    return f"ensgan_plugin_{key[:12]}"


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
