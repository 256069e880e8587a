"""What a GAN is: rows made of parts.

``get("SNGAN")`` is a row, ``build_generator`` makes its networks, ``sample`` makes images from
them. ``register`` adds a row of your own.
"""

from __future__ import annotations

from ensgan.zoo.augment.ada import ADA
from ensgan.zoo.augment.base import Augmentation, NoAugment
from ensgan.zoo.augment.diffaug import DiffAugment
from ensgan.zoo.backbones.base import Backbone, Generator, Trunk
from ensgan.zoo.backbones.resnet import BigResNet, ResNet
from ensgan.zoo.backbones.stylegan2 import StyleGAN2
from ensgan.zoo.build import (
    Discriminator,
    build_discriminator,
    build_generator,
    count_parameters,
    load_generator,
    save_weights,
)
from ensgan.zoo.conditioning.base import Conditioning
from ensgan.zoo.conditioning.classifier import ADC, TAC, AuxiliaryClassifier, NoTwin
from ensgan.zoo.conditioning.contrastive import D2DCE, Contrastive
from ensgan.zoo.conditioning.projection import MultiHingeClasses, Projection
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
from ensgan.zoo.optimiser import (
    Adam,
    FixedAverage,
    HalfLifeAverage,
    NoAverage,
    Optimiser,
    WarmedAverage,
)
from ensgan.zoo.parts import register_part
from ensgan.zoo.sampling import SAMPLING_REVISION, sample
from ensgan.zoo.spec import GANSpec
from ensgan.zoo.table import get, load_plugin, names, register

__all__ = [
    "ADA",
    "ADC",
    "D2DCE",
    "R1",
    "SAMPLING_REVISION",
    "TAC",
    "Adam",
    "Adversarial",
    "Augmentation",
    "AuxiliaryClassifier",
    "Backbone",
    "BigResNet",
    "Conditioning",
    "Contrastive",
    "DiffAugment",
    "Discriminator",
    "FeatureMatching",
    "FixedAverage",
    "GANSpec",
    "Generator",
    "HalfLifeAverage",
    "Hinge",
    "InfoCode",
    "Logistic",
    "MultiHinge",
    "MultiHingeClasses",
    "NoAugment",
    "NoAverage",
    "NoTwin",
    "Optimiser",
    "Projection",
    "Regularizer",
    "ResNet",
    "StyleGAN2",
    "Trunk",
    "WarmedAverage",
    "build_discriminator",
    "build_generator",
    "count_parameters",
    "get",
    "load_generator",
    "load_plugin",
    "names",
    "register",
    "register_part",
    "sample",
    "save_weights",
]
