"""Adaptive member weights: the gradients are the true ones, harmful members lose weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from ensgan.downstream import ClassifierSettings, MemoryBank, Strategy, run_repeat
from ensgan.downstream.drawing import MemberFeedback
from ensgan.embedding.fit import Batch
from ensgan.types import Dataset, Samples


def batch(labels: torch.Tensor, members: torch.Tensor) -> Batch:
    return Batch(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels, members)


def test_gradients_are_those_of_the_last_layer() -> None:
    torch.manual_seed(0)
    layer, features = torch.nn.Linear(5, 3), torch.randn(1, 5)
    label, weights = torch.tensor([2]), torch.tensor([0.5, 1.0, 2.0])
    scores = layer(features)
    # One image: the class weight would cancel in a weighted mean, so sum.
    functional.cross_entropy(scores, label, weights, reduction="sum").backward()
    found = MemberFeedback(np.ones(1), weights)._gradients(features, scores.detach(), label)
    expected = torch.cat([layer.weight.grad.flatten(), layer.bias.grad])
    assert torch.allclose(found[0], expected, atol=1e-6)


def test_update_follows_the_documented_formula() -> None:
    torch.manual_seed(1)
    weights = torch.ones(2)
    feedback = MemberFeedback(np.array([2.0, 1.0, 1.0]), weights)
    features, scores = torch.rand(6, 4), torch.randn(6, 2)
    labels, members = torch.tensor([0, 1, 0, 1, 1, 0]), torch.tensor([0, 0, 1, 1, 1, 0])
    val_features, val_scores = torch.rand(5, 4), torch.randn(5, 2)
    val_labels = torch.tensor([0, 1, 1, 0, 1])
    for part in (slice(0, 4), slice(4, 6)):
        feedback.on_batch(features[part], scores[part], batch(labels[part], members[part]))
    feedback.on_validation(val_features, val_scores, val_labels)
    gradients = feedback._gradients(features, scores, labels)
    target = feedback._gradients(val_features, val_scores, val_labels).mean(0)
    means = torch.stack([gradients[members == g].mean(0) for g in (0, 1)])
    agreement = means @ target / (target.norm() * means.square().sum(1).mean().sqrt())
    moved = np.array([0.5, 0.25, 0.25]) * np.exp(0.5 * np.append(agreement.numpy(), 0.0))
    assert feedback.shares == pytest.approx(0.9 * moved / moved.sum() + 0.1 / 3, rel=1e-5)
    assert feedback.shares.sum() == pytest.approx(1)


def split(n: int, seed: int, flip: bool = False) -> Samples:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.integers(0, 150, (n, 8, 8), dtype=np.uint8)
    images[labels == 1, :4] += 60
    return Samples(images, 1 - labels if flip else labels)


def test_a_member_with_wrong_labels_loses_weight() -> None:
    dataset = Dataset("toy", split(64, 0), split(40, 1), split(40, 2), ("no", "yes"))
    bank = MemoryBank({"Good@1": split(96, 3), "Bad@1": split(96, 4, flip=True)})
    strategy = Strategy("dynamic", ("Good@1", "Bad@1"), kind="dynamic")
    settings = ClassifierSettings(epochs=5, batch=16, width=8, learning_rate=5e-3)
    result = run_repeat(strategy, 0, dataset=dataset, bank=bank, settings=settings, seed=0)
    assert result.final_weights is not None
    good, bad = result.final_weights
    assert good > 0.6 > 0.4 > bad >= 0.05
