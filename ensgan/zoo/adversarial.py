"""Adversarial losses, a pair for each: the discriminator's and the generator's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from ensgan.zoo.parts import Part, register_part


class Adversarial(Part, ABC):
    """The two-player game on the discriminator's adversarial output."""

    @abstractmethod
    def discriminator_loss(self, real: Tensor, fake: Tensor, real_labels: Tensor) -> Tensor:
        """Outputs on reals and fakes ([B]; [B, K + 1] for the multi-hinge) → scalar."""

    @abstractmethod
    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        """Outputs on fakes, and the classes the generator was asked for → scalar."""

    def realness(self, outputs: Tensor) -> Tensor:
        """One number an image, positive where the discriminator calls it real."""
        return outputs


@register_part
@dataclass(frozen=True)
class Hinge(Adversarial):
    """D: E relu(1−a_real) + E relu(1+a_fake); G: −E a_fake (Lim & Ye 2017; Tran et al. 2017)."""

    def discriminator_loss(self, real: Tensor, fake: Tensor, real_labels: Tensor) -> Tensor:
        """See the class."""
        del real_labels
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        del labels
        return -fake.mean()


@register_part
@dataclass(frozen=True)
class Logistic(Adversarial):
    """D: E softplus(−a_real) + E softplus(a_fake); G: E softplus(−a_fake) (Goodfellow 2014)."""

    def discriminator_loss(self, real: Tensor, fake: Tensor, real_labels: Tensor) -> Tensor:
        """See the class."""
        del real_labels
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        del labels
        return functional.softplus(-fake).mean()


def crammer_singer(outputs: Tensor, targets: Tensor) -> Tensor:
    """E relu(1 + max_{k≠t} A_k − A_t), outputs [B, K + 1] (Crammer & Singer 2001)."""
    own = outputs.gather(1, targets[:, None]).squeeze(1)
    columns = torch.arange(outputs.shape[1], device=outputs.device)
    others = outputs.masked_fill(columns == targets[:, None], -torch.inf).amax(dim=1)
    return functional.relu(1 + others - own).mean()


@register_part
@dataclass(frozen=True)
class MultiHinge(Adversarial):
    """D: CS(A_real, y) + CS(A_fake, K); G: weight·CS(A_fake, y) (Kavalerov et al. 2021).

    Attributes:
        generator_weight: factor of the generator's term.
    """

    generator_weight: float = 0.05

    limits = (("generator_weight", "at least", 0),)

    def discriminator_loss(self, real: Tensor, fake: Tensor, real_labels: Tensor) -> Tensor:
        """See the class; the last column is 'fake'."""
        fake_class = torch.full_like(real_labels, fake.shape[1] - 1)[: len(fake)]
        return crammer_singer(real, real_labels) + crammer_singer(fake, fake_class)

    def realness(self, outputs: Tensor) -> Tensor:
        """The best class against 'fake'."""
        return outputs[:, :-1].amax(dim=1) - outputs[:, -1]

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        return self.generator_weight * crammer_singer(fake, labels)
