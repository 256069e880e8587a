"""Regularizers: R1, feature matching and InfoGAN codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from ensgan.zoo.conditioning.base import HeadOutput, Losses
from ensgan.zoo.parts import Part, register_part


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
        del view
        return {}

    def due(self, discriminator_update: int) -> bool:
        """Whether a separate discriminator step follows this update (counted from 0)."""
        del discriminator_update
        return False

    def discriminator_losses(
        self, images: Tensor, discriminate: Callable[[Tensor], HeadOutput]
    ) -> Losses:
        """Weighted terms of the separate discriminator step on the same reals."""
        del images, discriminate
        return {}


def r1_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """½·mean_i ‖∇_x Σ a‖² (Mescheder et al. 2018); ``logits`` must depend on ``images``."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean() / 2


@register_part
@dataclass(frozen=True)
class R1(Regularizer):
    """Lazy R1 (Karras et al. 2020): a separate Adam step on ``every``·``weight``·R1.

    Attributes:
        weight: λ.
        every: it is due at every so-manieth discriminator update, the first included.
    """

    weight: float = 0.01
    every: int = 16

    limits = (("weight", "at least", 0), ("every", "at least", 1))

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
@dataclass(frozen=True)
class FeatureMatching(Regularizer):
    """Mean features of fakes follow those of fresh reals (Salimans et al. 2016).

    Attributes:
        weight: factor of the term.
    """

    weight: float = 1.0

    limits = (("weight", "at least", 0),)

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
@dataclass(frozen=True)
class InfoCode(Regularizer):
    """Discrete InfoGAN codes (Chen et al. 2016).

    The generator is given ``codes`` independent uniform codes of ``categories`` values; a head on
    the discriminator's features guesses them. The head learns with the generator's optimiser, and
    the discriminator's trunk does not learn from the term.

    Attributes:
        codes, categories: how many codes, how many values each.
        weight: factor of the term.
    """

    codes: int = 1
    categories: int = 10
    weight: float = 1.0

    limits = (("codes", "at least", 1), ("categories", "at least", 2), ("weight", "at least", 0))

    @property
    def code_dim(self) -> int:
        """Length of the concatenated one-hot codes."""
        return self.codes * self.categories

    def generator_losses(self, view: GeneratorView) -> Losses:
        """See the class."""
        assert view.codes is not None
        assert view.fake.code_logits is not None
        return {"info": self.weight * code_cross_entropy(view.fake.code_logits, view.codes)}
