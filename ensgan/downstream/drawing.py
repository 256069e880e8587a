"""The images of each epoch, as a strategy wants them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ensgan.downstream.dynamic import MemberFeedback
from ensgan.downstream.pool import ImagePool, SampleBank, class_counts
from ensgan.downstream.settings import ClassifierSettings
from ensgan.downstream.strategy import Strategy
from ensgan.embedding.fit import Batch
from ensgan.types import Dataset, Float64Array, Int64Array

SHIFT, ROTATION, SCALE = 0.06, 10.0, 0.1
"""Most that a changed copy is shifted (share of the side), turned (degrees) and scaled."""


@dataclass
class Drawing:
    """Draws the epochs of one strategy.

    Attributes:
        counts: real images of each class per epoch, int64 [classes].
        rng: the randomness, advanced by every epoch.
        real, synthetic: where images come from, None where the strategy takes none.
        synthetic_counts: synthetic images of each class per epoch, int64 [classes].
        changed_counts: changed copies of real images of each class per epoch, int64 [classes].
        shares: chance of each member, float64 [members].
        feedback: gives the chances in place of ``shares`` when they adapt.
    """

    counts: Int64Array
    rng: np.random.Generator
    real: ImagePool | None = None
    synthetic: ImagePool | None = None
    synthetic_counts: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    changed_counts: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    shares: Float64Array = field(default_factory=lambda: np.ones(1))
    feedback: MemberFeedback | None = None

    def __call__(self, epoch: int) -> Batch:
        """The images of the next epoch, in the order of training."""
        parts = []
        if self.real is not None:
            indices, _ = self.real.draw(self.counts[None], self.rng)
            parts.append(self.real.batch(indices))
        if self.real is not None and self.changed_counts.sum():
            indices, _ = self.real.draw(self.changed_counts[None], self.rng)
            copies = self.real.batch(indices)
            parts.append(Batch(augmented(copies.images, self.rng), copies.labels))
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
        for more in (self.synthetic_counts, self.changed_counts):
            if len(more):
                total += more
        return total


def augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image shifted, turned and scaled a little, at random; what enters repeats the edge.

    Args:
        images: uint8 [n,C,H,W].
        rng: the randomness.
    """
    n = len(images)
    angle = np.deg2rad(rng.uniform(-ROTATION, ROTATION, n))
    scale = rng.uniform(1 - SCALE, 1 + SCALE, n)
    # The grid runs over −1…1, so a share of the side is twice as much there.
    shift = rng.uniform(-2 * SHIFT, 2 * SHIFT, (n, 2))
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    rows = [[cosine, -sine, shift[:, 0]], [sine, cosine, shift[:, 1]]]
    maps = torch.from_numpy(np.array(rows).transpose(2, 0, 1)).float().to(images.device)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    moved = functional.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return moved.round_().clamp_(0, 255).to(torch.uint8)


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
    real = strategy.kind in ("real", "real+synthetic", "real+augment")
    counts = class_counts(dataset, total, "training")
    drawing = Drawing(
        counts * (strategy.n_times if strategy.kind == "real" else 1),
        np.random.default_rng([seed, repeat]),
        real=ImagePool.real(dataset, settings.device) if real else None,
    )
    if strategy.kind == "real+augment":
        drawing.changed_counts = strategy.n_times * counts
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
