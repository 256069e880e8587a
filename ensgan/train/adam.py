"""Adam as one fused operation over all parameters of a network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ensgan.zoo.optimiser import Adam


class FusedAdam:
    """Adam (Kingma & Ba 2015) without weight decay, the update of ``torch.optim.Adam``.

    It calls torch's fused kernel directly: constructing a ``torch.optim`` class imports the
    compiler, which costs a process seconds before its first step.

    Attributes:
        parameters: what it updates; one without gradient is left alone, its state too.
        rates: learning rate, betas, eps.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], rates: Adam) -> None:
        self.parameters, self.rates = list(parameters), rates
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update with the gradients at hand."""
        due = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        steps = [self.steps[i] for i in due]
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            [self.parameters[i] for i in due],
            [grad for i in due if (grad := self.parameters[i].grad) is not None],
            [self.means[i] for i in due],
            [self.squares[i] for i in due],
            [],
            steps,
            lr=self.rates.learning_rate,
            beta1=self.rates.betas[0],
            beta2=self.rates.betas[1],
            weight_decay=0.0,
            eps=self.rates.eps,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Moments and step counts."""
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken.

        Raises:
            ValueError: the state belongs to other parameters.
        """
        for name, own in self.state_dict().items():
            _copy(own, state[name])


@torch.no_grad()
def _copy(own: list[Tensor], saved: list[Tensor]) -> None:
    for mine, theirs in zip(own, saved, strict=True):
        mine.copy_(theirs)
