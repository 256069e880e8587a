"""Conditioning by a class loss: the auxiliary classifier, which is the simplest; 2C (Kang & Park
2020) and D2D-CE (Kang, Shim, Cho & Park 2021), which are contrastive.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import field

import torch
import torch.nn.functional as functional
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from typing_extensions import Self

from ensgan.zoo.backbones import Backbone, Evidence
from ensgan.zoo.conditioning import ClassLossConditioning, NoTwin, Twin
from ensgan.zoo.parts import register_part


class ClassLogits(nn.Module):
    """A bias-free linear classifier."""

    def __init__(self, backbone: Backbone, feature_dim: int, targets: int) -> None:
        super().__init__()
        self.linear = backbone.linear(feature_dim, targets, bias=False)

    def forward(self, features: Tensor, targets: Tensor) -> Evidence:
        """h → logits [B, targets]."""
        return Evidence(self.linear(features))


@register_part
class AuxiliaryClassifier(ClassLossConditioning):
    """AC (Odena, Olah & Shlens 2017) with cross entropy; D's classifier sees reals only.

    Attributes:
        weight: λ.
        twin: TAC or ADC.
    """

    weight: NonNegativeFloat = 1.0
    twin: Twin = field(default_factory=NoTwin)

    def class_head(self, backbone: Backbone, feature_dim: int, targets: int) -> nn.Module:
        """Build a classifier."""
        return ClassLogits(backbone, feature_dim, targets)

    def class_loss(self, evidence: Evidence | None, targets: Tensor) -> Tensor:
        """Cross entropy."""
        assert evidence is not None
        return functional.cross_entropy(evidence.vectors, targets)


class ProxyEmbedding(nn.Module):
    """A linear embedding of h and one proxy per class, both brought to unit length."""

    def __init__(self, backbone: Backbone, feature_dim: int, targets: int, dim: int) -> None:
        super().__init__()
        self.linear = backbone.linear(feature_dim, dim, bias=True)
        self.proxies = backbone.class_vectors(targets, dim)

    def forward(self, features: Tensor, targets: Tensor) -> Evidence:
        """h [B, feature_dim], targets int64 [B] → unit embeddings and proxies [B, dim]."""
        return Evidence(
            functional.normalize(self.linear(features), dim=1),
            functional.normalize(self.proxies(targets), dim=1),
        )


def conditional_contrastive_loss(
    embeddings: Tensor, proxies: Tensor, targets: Tensor, temperature: float
) -> Tensor:
    """The 2C loss (Kang & Park 2020, equation 8).

    Args:
        embeddings, proxies: unit vectors [B, dim]; row i of ``proxies`` belongs to sample i.
        targets: int64 [B].
        temperature: τ > 0.
    """
    to_proxy = (embeddings * proxies).sum(dim=1, keepdim=True) / temperature
    pairs = embeddings @ embeddings.t() / temperature
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    other_class = targets[:, None] != targets[None, :]
    # Above the line the proxy and samples of the class, below it the proxy and all other samples.
    all_pairs = torch.cat([to_proxy, pairs.masked_fill(itself, -torch.inf)], dim=1)
    positives = torch.cat([to_proxy, pairs.masked_fill(itself | other_class, -torch.inf)], dim=1)
    return (all_pairs.logsumexp(dim=1) - positives.logsumexp(dim=1)).mean()


def data_to_data_cross_entropy(
    embeddings: Tensor,
    proxies: Tensor,
    targets: Tensor,
    *,
    temperature: float,
    margin: float,
    shift_negatives: bool = True,
) -> Tensor:
    """The D2D-CE loss: mean of P_i + log(exp(−P_i) + Σ_{y_j≠y_i} exp(relu(q_ij) − M_i)).

    P_i = relu((m − cos(e_i, p_i))/τ), q_ij = (cos(e_i, e_j) − (1 − m))/τ and M_i = max over j ≠ i
    of q_ij without gradient. M_i is in the implementation behind the published results but not in
    the paper (Kang et al. 2021, equation 8), which ``shift_negatives=False`` follows.

    Args:
        embeddings, proxies: unit vectors [B, dim], B ≥ 2; row i of ``proxies`` belongs to i.
        targets: int64 [B].
        temperature: τ > 0.
        margin: m, positive margin; the negative one is 1 − m.
        shift_negatives: subtract M_i.

    Returns:
        The loss, 0 when the batch holds one class only.
    """
    positive = functional.relu((margin - (embeddings * proxies).sum(dim=1)) / temperature)
    similarity = (embeddings @ embeddings.t() - (1 - margin)) / temperature
    exponents = functional.relu(similarity)
    if shift_negatives:
        itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
        largest = similarity.detach().masked_fill(itself, -torch.inf).amax(dim=1, keepdim=True)
        exponents = exponents - largest
    same_class = targets[:, None] == targets[None, :]
    # Masked pairs add exp(−∞) = 0 to the sum, which one logsumexp takes without overflow.
    negatives = exponents.masked_fill(same_class, -torch.inf)
    terms = torch.cat([-positive[:, None], negatives], dim=1)
    return (positive + terms.logsumexp(dim=1)).mean()


class _ProxyConditioning(ClassLossConditioning):
    """Base of the losses on unit embeddings and class proxies."""

    embedding_dim: int
    temperature: float

    def scaled(self, width: float) -> Self:
        """The embedding times ``width``."""
        dim = max(2, round(self.embedding_dim * width))
        return dataclasses.replace(self, embedding_dim=dim)

    def class_head(self, backbone: Backbone, feature_dim: int, targets: int) -> nn.Module:
        """Build an embedding with its proxies."""
        return ProxyEmbedding(backbone, feature_dim, targets, self.embedding_dim)

    @abstractmethod
    def proxy_loss(self, embeddings: Tensor, proxies: Tensor, targets: Tensor) -> Tensor:
        """The loss of unit embeddings [B, dim] and the proxies [B, dim] of their targets."""

    def class_loss(self, evidence: Evidence | None, targets: Tensor) -> Tensor:
        """See the base class."""
        assert evidence is not None and evidence.proxies is not None
        return self.proxy_loss(evidence.vectors, evidence.proxies, targets)


@register_part
class Contrastive(_ProxyConditioning):
    """2C: pulls an embedding to its class proxy and to samples of its class.

    Attributes:
        weight: λ.
        temperature: τ.
        embedding_dim: length of embeddings and proxies.
        twin: TAC or ADC.
    """

    weight: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 1.0
    embedding_dim: PositiveInt = 512
    twin: Twin = field(default_factory=NoTwin)

    def proxy_loss(self, embeddings: Tensor, proxies: Tensor, targets: Tensor) -> Tensor:
        """The 2C loss."""
        return conditional_contrastive_loss(embeddings, proxies, targets, self.temperature)


@register_part
class D2DCE(_ProxyConditioning):
    """D2D-CE: pulls an embedding to its class proxy and away from samples of other classes.

    Attributes:
        weight: λ.
        temperature: τ.
        margin: m_p, the positive margin (the negative one is 1 − m_p).
        embedding_dim: length of embeddings and proxies.
        shift_negatives: see :func:`data_to_data_cross_entropy`.
        twin: TAC or ADC.
    """

    weight: NonNegativeFloat = 0.5
    temperature: PositiveFloat = 0.5
    margin: float = 0.98
    embedding_dim: PositiveInt = 512
    shift_negatives: bool = True
    twin: Twin = field(default_factory=NoTwin)

    def proxy_loss(self, embeddings: Tensor, proxies: Tensor, targets: Tensor) -> Tensor:
        """The D2D-CE loss."""
        return data_to_data_cross_entropy(
            embeddings,
            proxies,
            targets,
            temperature=self.temperature,
            margin=self.margin,
            shift_negatives=self.shift_negatives,
        )
