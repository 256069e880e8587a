"""Loss terms of a row: the adversarial pair, and the regularizers beside it.

Adversarial losses come in pairs, the discriminator's and the generator's. Regularizers are R1,
feature matching and InfoGAN codes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import torch
import torch.nn.functional as functional
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from ensgan.zoo.backbones import HeadOutput
from ensgan.zoo.parts import Part, register_part

Losses: TypeAlias = dict[str, Tensor]
"""Loss terms by name, already weighted; their sum is what the player minimises."""


class Adversarial(Part, ABC):
    """The two-player game on the discriminator's adversarial output."""

    @abstractmethod
    def discriminator_loss(self, real: Tensor, fake: Tensor, real_labels: Tensor) -> Tensor:
        """Outputs on reals and fakes ([B]; [B, K + 1] for the multi-hinge) → scalar."""

    @abstractmethod
    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        """Outputs on fakes, and the classes the generator was asked for → scalar."""

    def realness(self, outputs: Tensor) -> Tensor:
        """One number per image, positive where the discriminator calls it real."""
        return outputs


@register_part
class Hinge(Adversarial):
    """D: E relu(1−a_real) + E relu(1+a_fake); G: −E a_fake (Lim & Ye 2017; Tran et al. 2017)."""

    def discriminator_loss(self, real: Tensor, fake: Tensor, real_labels: Tensor) -> Tensor:
        """See the class."""
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        return -fake.mean()


@register_part
class Logistic(Adversarial):
    """D: E softplus(−a_real) + E softplus(a_fake); G: E softplus(−a_fake) (Goodfellow 2014)."""

    def discriminator_loss(self, real: Tensor, fake: Tensor, real_labels: Tensor) -> Tensor:
        """See the class."""
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        return functional.softplus(-fake).mean()


def crammer_singer(outputs: Tensor, targets: Tensor) -> Tensor:
    """E relu(1 + max_{k≠t} A_k − A_t), outputs [B, K + 1] (Crammer & Singer 2001)."""
    target = outputs.gather(1, targets[:, None]).squeeze(1)
    columns = torch.arange(outputs.shape[1], device=outputs.device)
    others = outputs.masked_fill(columns == targets[:, None], -torch.inf).amax(dim=1)
    return functional.relu(1 + others - target).mean()


@register_part
class MultiHinge(Adversarial):
    """D: CS(A_real, y) + CS(A_fake, K); G: weight·CS(A_fake, y) (Kavalerov et al. 2021).

    Attributes:
        generator_weight: factor of the generator's term.
    """

    generator_weight: NonNegativeFloat = 0.05

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


@dataclass(frozen=True)
class GeneratorView:
    """What a regularizer sees in the generator's update.

    Attributes:
        fake: the discriminator's output on the fakes.
        codes: int64 [B, n], the InfoGAN codes of the fakes; None without codes.
        real_features: draws a fresh basket of reals and returns h [B, feature_dim], no gradient.
    """

    fake: HeadOutput
    codes: Tensor | None
    real_features: Callable[[], Tensor]


class Regularizer(Part):
    """Further loss terms; each hook does nothing unless overridden."""

    def generator_losses(self, view: GeneratorView) -> Losses:
        """Weighted terms added to the generator's loss."""
        return {}

    def due(self, discriminator_update: int) -> bool:
        """Whether a separate discriminator step follows this update (counted from 0)."""
        return False

    def discriminator_losses(
        self, images: Tensor, discriminate: Callable[[Tensor], HeadOutput]
    ) -> Losses:
        """Weighted terms of the separate discriminator step on the same reals."""
        return {}


def r1_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """½·mean_i ‖∇_x Σ a‖² (Mescheder et al. 2018); ``logits`` must depend on ``images``."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean() / 2


@register_part
class R1(Regularizer):
    """Lazy R1 (Karras et al. 2020): a separate Adam step on ``every``·``weight``·R1.

    Attributes:
        weight: λ.
        every: it is due at one discriminator update in this many, the first included.
    """

    weight: NonNegativeFloat = 0.01
    every: PositiveInt = 16

    def due(self, discriminator_update: int) -> bool:
        """At updates 0, every, 2·every …"""
        return discriminator_update % self.every == 0

    def discriminator_losses(
        self, images: Tensor, discriminate: Callable[[Tensor], HeadOutput]
    ) -> Losses:
        """The penalty; other outputs enter with weight 0, so that every Adam state advances."""
        images = images.detach().requires_grad_()
        output = discriminate(images)
        penalty = self.every * self.weight * r1_penalty(images, output.adversarial)
        for other in output.trainable_outputs():
            penalty = penalty + 0.0 * other.sum()
        return {"r1": penalty}


def feature_matching(fake: Tensor, real: Tensor) -> Tensor:
    """Mean over channels of |mean_batch h_fake − mean_batch h_real|, reals without gradient."""
    return (fake.mean(dim=0) - real.detach().mean(dim=0)).abs().mean()


@register_part
class FeatureMatching(Regularizer):
    """Mean features of fakes follow those of fresh reals (Salimans et al. 2016).

    Attributes:
        weight: factor of the term.
    """

    weight: NonNegativeFloat = 1.0

    def generator_losses(self, view: GeneratorView) -> Losses:
        """See the class."""
        matched = feature_matching(view.fake.features, view.real_features())
        return {"feature_matching": self.weight * matched}


def code_cross_entropy(logits: Tensor, codes: Tensor) -> Tensor:
    """Sum over codes of the batch mean cross entropies.

    Args:
        logits: [B, n·d], n consecutive blocks of d.
        codes: int64 [B, n], values 0…d-1.
    """
    blocks = logits.reshape(len(codes), codes.shape[1], -1)
    per_code = functional.cross_entropy(blocks.transpose(1, 2), codes, reduction="none")
    return per_code.mean(dim=0).sum()


@register_part
class InfoCode(Regularizer):
    """Discrete InfoGAN codes (Chen et al. 2016).

    The generator is given ``codes`` independent uniform codes of ``categories`` values; a head on
    the discriminator's features guesses them. The head learns with the generator's optimiser, and
    the discriminator's trunk does not learn from the term.

    Attributes:
        codes, categories: how many codes, how many values each.
        weight: factor of the term.
    """

    codes: PositiveInt = 1
    categories: Annotated[int, Field(ge=2)] = 10
    weight: NonNegativeFloat = 1.0

    @property
    def code_dim(self) -> int:
        """Length of the concatenated one-hot codes."""
        return self.codes * self.categories

    def generator_losses(self, view: GeneratorView) -> Losses:
        """See the class."""
        assert view.codes is not None
        assert view.fake.code_logits is not None
        return {"info": self.weight * code_cross_entropy(view.fake.code_logits, view.codes)}
