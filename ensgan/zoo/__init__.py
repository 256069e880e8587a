"""What a GAN is: rows made of parts.

``get("SNGAN")`` is a row, ``build_generator`` makes its networks, ``sample`` makes images from
them. ``register`` adds a row of your own.
"""

from ensgan.zoo.augment import ADA, Augmentation, DiffAugment, NoAugment
from ensgan.zoo.backbones import Backbone, Generator, Trunk
from ensgan.zoo.backbones.resnet import BigResNet, ResNet
from ensgan.zoo.backbones.stylegan2 import StyleGAN2
from ensgan.zoo.build import SAMPLING_REVISION, sample
from ensgan.zoo.build import Discriminator as Discriminator
from ensgan.zoo.build import build_discriminator as build_discriminator
from ensgan.zoo.build import build_generator as build_generator
from ensgan.zoo.build import load_generator as load_generator
from ensgan.zoo.build import save_weights as save_weights
from ensgan.zoo.class_losses import D2DCE, AuxiliaryClassifier, Contrastive
from ensgan.zoo.conditioning import ADC, TAC, Conditioning, MultiHingeClasses, NoTwin, Projection
from ensgan.zoo.footprint import count_parameters as count_parameters
from ensgan.zoo.losses import R1 as R1
from ensgan.zoo.losses import Adversarial as Adversarial
from ensgan.zoo.losses import FeatureMatching as FeatureMatching
from ensgan.zoo.losses import Hinge as Hinge
from ensgan.zoo.losses import InfoCode as InfoCode
from ensgan.zoo.losses import Logistic as Logistic
from ensgan.zoo.losses import MultiHinge as MultiHinge
from ensgan.zoo.losses import Regularizer as Regularizer
from ensgan.zoo.parts import Adam as Adam
from ensgan.zoo.parts import FixedAverage as FixedAverage
from ensgan.zoo.parts import HalfLifeAverage as HalfLifeAverage
from ensgan.zoo.parts import NoAverage as NoAverage
from ensgan.zoo.parts import Optimiser as Optimiser
from ensgan.zoo.parts import WarmedAverage as WarmedAverage
from ensgan.zoo.parts import register_part
from ensgan.zoo.table import GANSpec, get, load_plugin, names, register
