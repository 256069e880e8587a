"""What a GAN is: rows made of parts.

``get("SNGAN")`` is a row, ``build_generator`` makes its networks, ``sample`` makes images from
them. ``register`` adds a row of your own.
"""

from ensgan.zoo.augment import Augmentation as Augmentation
from ensgan.zoo.augment import NoAugment as NoAugment
from ensgan.zoo.augment.ada import ADA as ADA
from ensgan.zoo.augment.diffaug import DiffAugment as DiffAugment
from ensgan.zoo.backbones import Backbone as Backbone
from ensgan.zoo.backbones import Generator as Generator
from ensgan.zoo.backbones import Trunk as Trunk
from ensgan.zoo.backbones.resnet import BigResNet as BigResNet
from ensgan.zoo.backbones.resnet import ResNet as ResNet
from ensgan.zoo.backbones.stylegan2 import StyleGAN2 as StyleGAN2
from ensgan.zoo.build import Discriminator as Discriminator
from ensgan.zoo.build import build_discriminator as build_discriminator
from ensgan.zoo.build import build_generator as build_generator
from ensgan.zoo.build import count_parameters as count_parameters
from ensgan.zoo.build import load_generator as load_generator
from ensgan.zoo.build import save_weights as save_weights
from ensgan.zoo.conditioning import Conditioning as Conditioning
from ensgan.zoo.conditioning.classifier import ADC as ADC
from ensgan.zoo.conditioning.classifier import TAC as TAC
from ensgan.zoo.conditioning.classifier import AuxiliaryClassifier as AuxiliaryClassifier
from ensgan.zoo.conditioning.classifier import MultiHingeClasses as MultiHingeClasses
from ensgan.zoo.conditioning.classifier import NoTwin as NoTwin
from ensgan.zoo.conditioning.classifier import Projection as Projection
from ensgan.zoo.conditioning.contrastive import D2DCE as D2DCE
from ensgan.zoo.conditioning.contrastive import Contrastive as Contrastive
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
from ensgan.zoo.parts import register_part as register_part
from ensgan.zoo.sampling import SAMPLING_REVISION as SAMPLING_REVISION
from ensgan.zoo.sampling import sample as sample
from ensgan.zoo.spec import GANSpec as GANSpec
from ensgan.zoo.table import get as get
from ensgan.zoo.table import load_plugin as load_plugin
from ensgan.zoo.table import names as names
from ensgan.zoo.table import plugin_module as plugin_module
from ensgan.zoo.table import register as register
