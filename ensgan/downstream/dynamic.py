"""Member weights that follow the validation split while the classifier learns."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ensgan.embedding.fit import Batch
from ensgan.types import Float64Array


class MemberFeedback:
    """Exponentiated gradient on the chances of the members.

    A small step on images of member g lowers the validation loss by the learning rate times
    ⟨∇L_val, ∇L_g⟩. Both gradients are taken for the last linear layer only, where they are outer
    products of the softmax error and the features that the forward pass has computed anyway. At
    the end of an epoch, with ∇L_g averaged over the images that g gave,

        a_g = ⟨∇L_val, ∇L_g⟩ / (‖∇L_val‖ · rms_h ‖∇L_h‖)
        w_g ← (1 − floor) · w_g·exp(step·a_g) / Σ_h w_h·exp(step·a_h) + floor / |G|

    The floor keeps every member drawn now and then, so that a bad start can be made good. Only
    the training and the validation split are looked at.

    Attributes:
        shares: present chances, float64 [members], sum 1.
    """

    def __init__(
        self,
        shares: Float64Array,
        weights: Tensor,
        *,
        step: float = 0.5,
        floor: float = 0.1,
    ) -> None:
        self.shares = shares / shares.sum()
        self._weights = weights
        self._step = step
        self._floor = floor
        self._sums: Tensor | None = None
        self._counts = torch.zeros(len(shares), device=weights.device)

    def on_batch(self, features: Tensor, scores: Tensor, batch: Batch) -> None:
        """Add the batch's gradients to the sums of the members that gave its images."""
        assert batch.members is not None
        gradients = self._gradients(features, scores, batch.labels)
        if self._sums is None:
            self._sums = gradients.new_zeros(len(self.shares), gradients.shape[1])
        self._sums.index_add_(0, batch.members, gradients)
        self._counts.index_add_(0, batch.members, torch.ones_like(gradients[:, 0]))

    def on_validation(self, features: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Move the chances towards members whose gradients agree with the validation split's."""
        assert self._sums is not None
        target = self._gradients(features, scores, labels).mean(0)
        members = self._sums / self._counts.clamp(min=1)[:, None]
        present = self._counts > 0
        size = members[present].square().sum(1).mean().sqrt() * target.norm()
        agreement = torch.where(present, members @ target / size.clamp(min=1e-12), 0.0)
        values = agreement.double().cpu().numpy()
        moved = self.shares * np.exp(self._step * (values - values.max()))
        self.shares = (1 - self._floor) * moved / moved.sum() + self._floor / len(moved)
        self._sums.zero_()
        self._counts.zero_()

    def _gradients(self, features: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """Gradient of each image's loss for the last layer's weights and biases, [n, K·(D+1)]."""
        error = functional.softmax(scores, 1)
        error = error - functional.one_hot(labels, scores.shape[1])
        error = error * self._weights[labels, None]
        return torch.cat([(error[:, :, None] * features[:, None, :]).flatten(1), error], 1)
