"""The contract between a GAN row and its networks.

A *backbone* is one part of a row: a frozen dataclass of sizes (widths, latent dimension, attention,
spectral norm …) that knows how to build the generator, the discriminator's trunk and the layers
its heads are made of. What the heads mean (projection, classifier, proxies …) is the business of
``ensgan.zoo.conditioning``; what is learned is the business of ``ensgan.train``.

Rules for an implementation:

* **Construction.** Modules initialise themselves in ``__init__`` with torch's default random
  numbers; ``ensgan.zoo.build`` seeds and restores them around the call. Construction works under
  ``torch.device("meta")`` (parameters are counted there), so no ``.item()`` or data-dependent code.
* **Forward.** A generator's forward is a function of its four inputs, its parameters and buffers
  only: it draws nothing itself. Latents, codes and noise planes come from the caller.
* **Train and eval mode.** Train mode: batch statistics are used, spectral norm does one power
  iteration per forward. Eval mode: no buffer changes and image i depends on inputs i only.
* **Buffers** hold everything besides parameters that a checkpoint must restore (running
  statistics, spectral-norm vectors, moving averages).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import Self

from ensgan.types import ImageShape
from ensgan.zoo.parts import Part


class Player(Enum):
    """Whose update it is."""

    GENERATOR = "generator"
    DISCRIMINATOR = "discriminator"


class Generator(nn.Module, ABC):
    """Latents and labels to images.

    Attributes:
        shape: of the images made.
        num_classes: K; labels are 0…K-1.
        latent_dim: length of z.
        code_dim: length of the concatenated one-hot InfoGAN codes, 0 without codes.
        code_sizes: categories of each code, in order; ``build_generator`` fills it in.
        noise_sizes: side length of every noise plane the forward needs, () when it needs none.
    """

    shape: ImageShape
    num_classes: int
    latent_dim: int
    code_dim: int
    code_sizes: tuple[int, ...] = ()
    noise_sizes: tuple[int, ...] = ()

    @abstractmethod
    def forward(
        self,
        latents: Tensor,
        labels: Tensor,
        code: Tensor | None = None,
        noise: Sequence[Tensor] = (),
    ) -> Tensor:
        """Make images.

        Args:
            latents: float32 [B, latent_dim], drawn from N(0, I).
            labels: int64 [B], classes from 0.
            code: float32 [B, code_dim], concatenated one-hot codes; None exactly when
                ``code_dim`` is 0.
            noise: for each entry s of ``noise_sizes`` a float32 [B, 1, s, s] plane from N(0, 1).

        Returns:
            float32 [B, C, H, W]; real images are in [-1, 1], a generator may go beyond.
        """

    def prepare(self, player: Player) -> None:
        """Called before the fakes of a player's update are made; does nothing by default.

        A batch-normalised generator moves its running statistics only in its own update;
        StyleGAN2 moves its mean w only with the fakes made for the discriminator.
        """


class Trunk(nn.Module, ABC):
    """The discriminator without heads: images to features h.

    Attributes:
        feature_dim: length of h.
        code_divisor: the InfoGAN head reads h / code_divisor (sum pooling to mean pooling in
            residual trunks; 1 otherwise).
    """

    feature_dim: int
    code_divisor: float = 1.0

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """float32 [B, C, H, W] → h, float32 [B, feature_dim]."""


@dataclass(frozen=True)
class Evidence:
    """Output of a class head for a batch.

    Attributes:
        vectors: classifier logits [B, classes], or unit embeddings [B, dim].
        proxies: unit proxies [B, dim] of the target classes; None for a classifier.
    """

    vectors: Tensor
    proxies: Tensor | None = None


@dataclass(frozen=True)
class HeadOutput:
    """Output of the discriminator for a batch.

    Attributes:
        features: h [B, feature_dim].
        adversarial: [B], or [B, K + 1] of the multi-hinge head.
        main, twin: the class heads' evidence, None where the row has no such head.
        code_logits: [B, codes · categories] of the InfoGAN head, where it was asked for.
    """

    features: Tensor
    adversarial: Tensor
    main: Evidence | None = None
    twin: Evidence | None = None
    code_logits: Tensor | None = None

    def trainable_outputs(self) -> list[Tensor]:
        """Every output a discriminator update can send gradients through."""
        outputs = [self.adversarial]
        for evidence in (self.main, self.twin):
            if evidence is not None:
                outputs.append(evidence.vectors)
                if evidence.proxies is not None:
                    outputs.append(evidence.proxies)
        return outputs


class Head(nn.Module, ABC):
    """The discriminator's head on features."""

    @abstractmethod
    def forward(self, features: Tensor, targets: Tensor) -> HeadOutput:
        """h [B, feature_dim], targets int64 [B] → output."""


class Backbone(Part, ABC):
    """The networks of a row. Implementations are frozen dataclasses, made so by ``@register_part``.

    Fields are JSON-able numbers, strings, booleans or tuples, ``latent_dim`` among them.
    """

    latent_dim: int

    @abstractmethod
    def scaled(self, width: float) -> Self:
        """The backbone with every channel count, embedding and mapping width times ``width``.

        ``scaled(1.0)`` is the backbone itself. Results are rounded so that the backbone stays
        legal (attention's C/8 ≥ 1, latents divisible by their chunks); the latent keeps its length
        in residual backbones and follows w in StyleGAN2.
        """

    @abstractmethod
    def problems(self, shape: ImageShape, num_classes: int, code_dim: int) -> list[str]:
        """Every rule that these sizes break, one sentence each; empty when all is well."""

    @abstractmethod
    def generator(self, shape: ImageShape, num_classes: int, code_dim: int) -> Generator:
        """Build a generator (``code_dim`` 0: without InfoGAN codes)."""

    @abstractmethod
    def trunk(self, shape: ImageShape) -> Trunk:
        """Build the discriminator's trunk."""

    @abstractmethod
    def linear(self, inputs: int, outputs: int, *, bias: bool) -> nn.Module:
        """A linear layer of a head in this backbone's manner (spectral norm, equalised rate …).

        The adversarial output is ``linear(feature_dim, 1, bias=True)``, a classifier has no bias,
        an embedding head has one, the InfoGAN head has none.
        """

    @abstractmethod
    def class_vectors(self, num_classes: int, dim: int) -> nn.Module:
        """Class proxies for 2C and D2D-CE: labels int64 [B] → vectors [B, dim], not normalised."""

    @abstractmethod
    def projection(self, feature_dim: int, num_classes: int) -> nn.Module:
        """The projection discriminator (PD in residual backbones, SPD in StyleGAN2).

        h [B, feature_dim], labels int64 [B] → logits [B], the inner product with the label's
        vector in them.
        """


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """labels int64 [B] → float32 [B, num_classes]; has no data-dependent checks."""
    classes = torch.arange(num_classes, device=labels.device)
    return (labels[:, None] == classes).to(torch.float32)


def pointwise(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1×1 convolution that is channels last whatever the input, as one matrix product.

    One image channel has no memory format of its own: torch's convolution then makes its output
    channels first, and the layers after it convert it, and their gradients, again and again.

    Args:
        images: [B, inputs, H, W], of few channels.
        weight: [outputs, inputs, 1, 1].
        bias: [outputs], or None.

    Returns:
        [B, outputs, H, W].
    """
    made: Tensor = functional.linear(images.permute(0, 2, 3, 1), weight.flatten(1), bias)
    return made.permute(0, 3, 1, 2)
