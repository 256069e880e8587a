"""Label consistency: whether members' images show the classes they were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ensgan.downstream.classifier import ClassifierSettings, check_dataset, train_classifier
from ensgan.downstream.pool import SampleBank
from ensgan.downstream.strategy import Strategy
from ensgan.embedding.fit import forward, labelled
from ensgan.embedding.resnet import ResNet
from ensgan.types import Dataset, Samples

IMAGES = 512
"""Images of each member that are looked at, spread evenly over its bank."""
AT_CHANCE = 0.05
"""Shares so near to chance are no better than that: two standard errors of 512 images."""
TELLS = 0.1
"""How far above chance the classifier must be on real images for its word to count."""
FAR, SPREADS = 0.15, 3.0
"""Far below the others: so much below their median, and so many (robust) standard deviations."""


@dataclass(frozen=True)
class LabelConsistency:
    """What a classifier trained on real images thinks of generated ones; shares in [0, 1].

    Attributes:
        real, real_chance: of the real validation split, as a scale.
        members: by name, the share of a member's images that are given the class asked for.
        chance: by name, the share that labels without any bearing on the images would reach.
    """

    real: float
    real_chance: float
    members: Mapping[str, float]
    chance: Mapping[str, float]

    @property
    def median(self) -> float:
        """The median of the members' shares."""
        return float(np.median(list(self.members.values())))

    def doubtful(self) -> tuple[str, ...]:
        """Members whose labels do not fit their images, in pool order.

        These are far below the median, or far below chance, or at chance while at least two
        others are far above them: where half a pool swaps its labels the median tells nothing.
        Empty where the classifier cannot tell the classes of real images.
        """
        if self.real < self.real_chance + TELLS:
            return ()
        shares = np.array(list(self.members.values()))
        spread = 1.4826 * float(np.median(np.abs(shares - self.median)))
        low = self.median - max(FAR, SPREADS * spread)
        found = []
        for name, share in self.members.items():
            chance = self.chance[name]
            behind = share <= chance + AT_CHANCE and np.count_nonzero(shares >= share + FAR) >= 2
            if share < low or share < chance - FAR or behind:
                found.append(name)
        return tuple(found)


def label_consistency(
    names: Sequence[str],
    *,
    dataset: Dataset,
    bank: SampleBank,
    settings: ClassifierSettings,
    seed: int,
) -> LabelConsistency:
    """Train a classifier on the real training split and let it name members' images.

    The validation split chooses its weights; the test split is not touched.

    Args:
        names: of the members.
        dataset: the real data.
        bank: gives the members' images.
        settings: of the classifier.
        seed: of its training.

    Raises:
        DataError: the training or the validation split lacks a class.
    """
    check_dataset(dataset, ("train", "val"))
    real = Strategy("real", kind="real")
    network = train_classifier(real, 0, dataset, bank, settings, seed)[0]
    device = settings.on_device().device
    val, val_chance = _agreement(network, dataset.val, device)
    members, chance = {}, {}
    for name in names:
        samples = bank.load(name)
        # Banks from elsewhere may be in the order of their classes.
        rows = np.linspace(0, len(samples) - 1, min(IMAGES, len(samples))).astype(np.int64)
        part = Samples(samples.images[rows], samples.labels[rows])
        members[name], chance[name] = _agreement(network, part, device)
    return LabelConsistency(val, val_chance, members, chance)


def _agreement(network: ResNet, samples: Samples, device: str) -> tuple[float, float]:
    """Share of images called by their label, and what independent labels would reach."""
    called = forward(network, labelled(samples, device).images)[1].argmax(1).cpu().numpy()
    classes = int(max(called.max(), samples.labels.max())) + 1
    shares = [
        np.bincount(each, minlength=classes) / len(called) for each in (called, samples.labels)
    ]
    return float(np.mean(called == samples.labels)), float(shares[0] @ shares[1])
