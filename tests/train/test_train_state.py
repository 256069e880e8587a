"""The fused Adam makes the updates of torch's own."""

from __future__ import annotations

import copy

import pytest
import torch

from ensgan.train.state import FusedAdam
from ensgan.zoo.parts import Adam


@pytest.mark.parametrize("betas", [(0.5, 0.999), (0.0, 0.99)])
def test_updates_are_those_of_torch(betas: tuple[float, float]) -> None:
    torch.manual_seed(0)
    mine = [torch.nn.Parameter(torch.randn(3, 4)), torch.nn.Parameter(torch.randn(5))]
    theirs = copy.deepcopy(mine)
    ours = FusedAdam(mine, Adam(2e-3, betas, 1e-6))
    reference = torch.optim.Adam(theirs, lr=2e-3, betas=betas, eps=1e-6)
    for step in range(5):
        for one, other in zip(mine, theirs, strict=True):
            gradient = torch.randn_like(one)
            one.grad, other.grad = gradient, gradient.clone()
        if step == 2:  # a parameter without gradient keeps its state
            mine[1].grad = theirs[1].grad = None
        ours.step()
        reference.step()
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    ours.zero_grad()
    assert mine[0].grad is None


def test_state_continues() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    ours = FusedAdam([parameter], Adam())
    parameter.grad = torch.ones(2)
    ours.step()
    saved = copy.deepcopy(ours.state_dict())
    other = FusedAdam([torch.nn.Parameter(torch.ones(2))], Adam())
    other.load_state_dict(saved)
    assert torch.equal(other.steps[0], torch.ones(()))
    assert torch.equal(other.means[0], ours.means[0])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        FusedAdam([], Adam()).load_state_dict(saved)
