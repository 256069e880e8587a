"""The images of each epoch, as a strategy wants them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from ensgan.downstream.bank import SampleBank
from ensgan.downstream.dynamic import MemberFeedback
from ensgan.downstream.pool import ImagePool, class_counts
from ensgan.downstream.settings import ClassifierSettings
from ensgan.downstream.strategy import Strategy
from ensgan.embedding.fit import Batch
from ensgan.types import Dataset, Float64Array, Int64Array


@dataclass
class Drawing:
    """Draws the epochs of one strategy.

    Attributes:
        counts: real images of each class an epoch, int64 [classes].
        rng: the randomness, advanced by every epoch.
        real, synthetic: where images come from, None where the strategy takes none.
        synthetic_counts: synthetic images of each class an epoch, int64 [classes].
        shares: chance of each member, float64 [members].
        feedback: gives the chances in place of ``shares`` when they adapt.
    """

    counts: Int64Array
    rng: np.random.Generator
    real: ImagePool | None = None
    synthetic: ImagePool | None = None
    synthetic_counts: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    shares: Float64Array = field(default_factory=lambda: np.ones(1))
    feedback: MemberFeedback | None = None

    def __call__(self, epoch: int) -> Batch:
        """The images of the next epoch, in the order of training."""
        parts = []
        if self.real is not None:
            indices, _ = self.real.draw(self.counts[None], self.rng)
            parts.append(self.real.batch(indices))
        if self.synthetic is not None:
            shares = self.shares if self.feedback is None else self.feedback.shares
            counts = self.synthetic.split(self.synthetic_counts, shares, self.rng)
            indices, members = self.synthetic.draw(counts, self.rng)
            parts.append(self.synthetic.batch(indices, members))
        if len(parts) == 1:
            return parts[0]
        images = torch.cat([part.images for part in parts])
        order = torch.from_numpy(self.rng.permutation(len(images))).to(images.device)
        return Batch(images[order], torch.cat([part.labels for part in parts])[order])

    @property
    def trained_counts(self) -> Int64Array:
        """Labels an epoch really holds, by class."""
        total = np.zeros_like(self.counts)
        if self.real is not None:
            total += self.counts
        if self.synthetic is not None:
            total += self.synthetic_counts
        return total


def make_drawing(
    strategy: Strategy,
    repeat: int,
    dataset: Dataset,
    bank: SampleBank,
    settings: ClassifierSettings,
    seed: int,
) -> Drawing:
    """Load the images of a strategy; the order of drawing depends on (seed, repeat) alone.

    Raises:
        DataError: members that do not fit the data.
        InputError: an unknown member.
    """
    total = settings.images_per_epoch
    real = strategy.kind in ("real", "real+synthetic")
    drawing = Drawing(
        class_counts(dataset, total, "training"),
        np.random.default_rng([seed, repeat]),
        real=ImagePool.real(dataset, settings.device) if real else None,
    )
    if strategy.members:
        drawing.synthetic = ImagePool.synthetic(
            strategy.members,
            bank,
            dataset,
            memory_mb=settings.memory_mb,
            seed=seed,
            device=settings.device,
        )
        drawing.synthetic_counts = strategy.n_times * class_counts(dataset, total, settings.labels)
        weights = strategy.weights or (1.0,) * len(strategy.members)
        drawing.shares = np.array(weights) / sum(weights)
    return drawing
