"""What a GAN is: rows made of parts.

``get("SNGAN")`` is a row, ``build_generator`` makes its networks, ``sample`` makes images from
them. ``register`` adds a row of your own.
"""

from ensgan.zoo.augment import Augmentation, NoAugment
from ensgan.zoo.augment.ada import ADA
from ensgan.zoo.augment.diffaug import DiffAugment
from ensgan.zoo.backbones import Backbone, Generator, Trunk
from ensgan.zoo.backbones.resnet import BigResNet, ResNet
from ensgan.zoo.backbones.stylegan2 import StyleGAN2
from ensgan.zoo.build import Discriminator as Discriminator
from ensgan.zoo.build import build_discriminator as build_discriminator
from ensgan.zoo.build import build_generator as build_generator
from ensgan.zoo.build import count_parameters as count_parameters
from ensgan.zoo.build import load_generator as load_generator
from ensgan.zoo.build import save_weights as save_weights
from ensgan.zoo.conditioning import Conditioning
from ensgan.zoo.conditioning.classifier import ADC as ADC
from ensgan.zoo.conditioning.classifier import TAC as TAC
from ensgan.zoo.conditioning.classifier import AuxiliaryClassifier as AuxiliaryClassifier
from ensgan.zoo.conditioning.classifier import MultiHingeClasses as MultiHingeClasses
from ensgan.zoo.conditioning.classifier import NoTwin as NoTwin
from ensgan.zoo.conditioning.classifier import Projection as Projection
from ensgan.zoo.conditioning.contrastive import D2DCE, Contrastive
from ensgan.zoo.losses import R1 as R1
from ensgan.zoo.losses import Adversarial as Adversarial
from ensgan.zoo.losses import FeatureMatching as FeatureMatching
from ensgan.zoo.losses import Hinge as Hinge
from ensgan.zoo.losses import InfoCode as InfoCode
from ensgan.zoo.losses import Logistic as Logistic
from ensgan.zoo.losses import MultiHinge as MultiHinge
from ensgan.zoo.losses import Regularizer as Regularizer
from ensgan.zoo.optimiser import Adam as Adam
from ensgan.zoo.optimiser import FixedAverage as FixedAverage
from ensgan.zoo.optimiser import HalfLifeAverage as HalfLifeAverage
from ensgan.zoo.optimiser import NoAverage as NoAverage
from ensgan.zoo.optimiser import Optimiser as Optimiser
from ensgan.zoo.optimiser import WarmedAverage as WarmedAverage
from ensgan.zoo.parts import register_part
from ensgan.zoo.sampling import SAMPLING_REVISION, sample
from ensgan.zoo.spec import GANSpec
from ensgan.zoo.table import get, load_plugin, names, plugin_module, register
