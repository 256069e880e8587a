"""Classifiers as one batch of networks: to rounding what each would have been by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from ensgan.downstream import ClassifierSettings, MemoryBank, Strategy, classifier, together
from ensgan.downstream.classifier import Repeat, run_repeats
from ensgan.downstream.together import Together, Training
from ensgan.embedding import fit
from ensgan.embedding.fit import Batch, FitSettings, labelled, network_input
from ensgan.embedding.resnet import resnet18
from ensgan.errors import TrainingError
from ensgan.types import Dataset, Samples

PACE = FitSettings(epochs=9, batch=16, learning_rate=3e-3, plateau=1, warmup=2, patience=2)


def split(n: int, seed: int) -> Samples:
    """Class 1 is a little brighter above; noise, so that the validation loss turns soon."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.integers(0, 200, (n, 8, 8), dtype=np.uint8)
    images[labels == 1, :4] += 30
    return Samples(images, labels.astype(np.int64))


DATA = Dataset("toy", split(49, 0), split(30, 1), split(40, 2), ("no", "yes"))
BANK = MemoryBank({"A@1": split(60, 3), "B@1": split(60, 4)})
VALIDATION = labelled(DATA.val, "cpu")


def trainings(weights: float = 1.0) -> list[Training]:
    """Four networks of their own seeds, images and class weights; 49 images: one is left over."""

    def draw(seed: int) -> Callable[[int], Batch]:
        images, rng = labelled(split(49, 10 + seed), "cpu"), np.random.default_rng(seed)
        return lambda epoch: images.part(torch.from_numpy(rng.permutation(49)))

    return [
        Training(
            resnet18(channels=1, classes=2, width=8, seed=seed),
            draw(seed),
            torch.tensor([1.0 + 0.1 * seed, weights]),
        )
        for seed in range(4)
    ]


def test_losses_of_the_first_steps_are_those_of_each_alone() -> None:
    pace = replace(PACE, epochs=1, learning_rate=1e-5)
    expected = [each.alone(VALIDATION, pace) for each in trainings()]
    found = Together(trainings(), VALIDATION, pace).fit()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.history, other.history, atol=1e-5)


def test_ends_and_weights_are_those_of_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64: the noise of float32 grows with every step of Adam."""
    for module in (fit, together):
        monkeypatch.setattr(module, "network_input", lambda x: network_input(x).double())
    alone, beside = trainings(), trainings()
    for each in (*alone, *beside):
        each.network.double()
        each.weights = each.weights.double()
    expected = [each.alone(VALIDATION, PACE) for each in alone]
    found = Together(beside, VALIDATION, PACE).fit()
    assert len({result.epochs for result in expected}) > 1, "all end together: this shows little"
    for one, other in zip(found, expected, strict=True):
        assert replace(one, history=(), val_scores=None, val_loss=0) == replace(
            other, history=(), val_scores=None, val_loss=0
        )
        np.testing.assert_allclose(one.history, other.history, rtol=1e-6)
        torch.testing.assert_close(one.val_scores, other.val_scores)
    for one, other in zip(beside, alone, strict=True):
        torch.testing.assert_close(one.network.state_dict(), other.network.state_dict())


def test_in_bfloat16_forwards_are_that_and_losses_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    formats: set[tuple[torch.dtype, torch.dtype]] = set()
    inner = resnet18(channels=1, classes=2, width=8, seed=0)
    inner.conv1.register_forward_hook(lambda _, x, out: formats.add((x[0].dtype, out.dtype)))
    pace = replace(PACE, epochs=1, learning_rate=1e-5, precision="bfloat16")
    first, *others = trainings()
    found = replace(first, network=inner).alone(VALIDATION, pace)
    assert formats == {(torch.float32, torch.bfloat16)}
    assert found.val_scores.dtype == torch.float32
    assert {each.dtype for each in inner.parameters()} == {torch.float32}
    exact = trainings()[0].alone(VALIDATION, replace(pace, precision="float32"))
    assert found.history != exact.history
    np.testing.assert_allclose(found.history, exact.history, rtol=0.02)
    expected = [found, *(each.alone(VALIDATION, pace) for each in others)]
    beside = Together(trainings(), VALIDATION, pace).fit()
    for one, other in zip(beside, expected, strict=True):
        assert one.val_scores.dtype == torch.float32
        np.testing.assert_allclose(one.history, other.history, rtol=0.02)


def test_a_loss_that_is_not_finite_is_said() -> None:
    with pytest.raises(TrainingError, match="became non-finite in epoch 1"):
        Together(trainings(float("nan")), VALIDATION, PACE).fit()


def test_repeats_of_several_strategies_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with equally many images in an epoch."""
    settings = ClassifierSettings(
        epochs=2, batch=16, width=8, learning_rate=1e-4, precision="float32"
    )
    strategies = [
        Strategy("real", kind="real"),
        Strategy("pair", ("A@1", "B@1")),
        Strategy("both", ("A@1",), kind="real+synthetic"),
    ]
    repeats = [Repeat(each, 0, BANK) for each in strategies]
    repeats.append(Repeat(strategies[0], 1, BANK))
    expected = run_repeats(repeats, dataset=DATA, settings=settings, seed=3)
    groups = classifier._groups(repeats, DATA, replace(settings, device="cuda"))
    assert groups == [[0, 1, 3], [2]]
    monkeypatch.setattr(classifier, "_groups", lambda *_: groups)
    found = run_repeats(repeats, dataset=DATA, settings=settings, seed=3)
    for one, other in zip(found, expected, strict=True):
        assert (one.strategy, one.repeat, one.images, one.class_weights) == (
            other.strategy,
            other.repeat,
            other.images,
            other.class_weights,
        )
        assert one.val_loss == pytest.approx(other.val_loss, abs=1e-3)
        assert one.metrics["auc"] == pytest.approx(other.metrics["auc"], abs=0.01)
