"""The images of each epoch, as a strategy wants them: from banks, or made anew by their members."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import ensgan.downstream.pool as image_pools
from ensgan.downstream.strategy import Strategy
from ensgan.embedding.fit import Batch, labelled
from ensgan.types import BoolArray, Dataset, Float64Array, Int64Array, Samples

if TYPE_CHECKING:
    from ensgan.downstream.classifier import ClassifierSettings


Pools: TypeAlias = dict[tuple[Any, ...], image_pools.ImagePool]
"""Images that are loaded: real ones under (), those of members by bank and names."""


@dataclass
class FreshPool:
    """Members that make their images while a classifier trains; the others keep their banks.

    Images depend on the seed, the repeat, the epoch and the member's name only, so that every
    strategy gets the same ones of a member.

    Attributes:
        members: names.
        makers: what makes the images of each; None where only a bank is left.
        banks: images of the members without a maker, in their order; None where there are none.
        dataset: the real data, whose shape and classes images must have.
        seed: (of the evaluation, repeat).
        device: where images are wanted.
        epoch: how many epochs were drawn.
    """

    members: tuple[str, ...]
    makers: tuple[image_pools.Maker | None, ...]
    banks: image_pools.ImagePool | None
    dataset: Dataset
    seed: tuple[int, int]
    device: str
    epoch: int = 0

    @property
    def present(self) -> BoolArray:
        """As :attr:`ImagePool.present`; a member with a maker has images of every class."""
        present = np.ones((len(self.members), self.dataset.num_classes), np.bool_)
        if self.banks is not None:
            present[self._banked] = self.banks.present
        return present

    def batch(self, counts: Int64Array, rng: np.random.Generator) -> Batch:
        """The next epoch's images in random order.

        Args:
            counts: int64 [members, classes], images of each.

        Raises:
            DataError: a member makes other images than the data has.
        """
        parts = [
            self._made(name, maker, of_member)
            for name, maker, of_member in zip(self.members, self.makers, counts, strict=True)
            if maker is not None and of_member.any()
        ]
        if self.banks is not None and counts[self._banked].any():
            parts.append(self.banks.batch(counts[self._banked], rng))
        self.epoch += 1
        return _shuffled(parts, rng)

    @property
    def _banked(self) -> list[int]:
        return [index for index, maker in enumerate(self.makers) if maker is None]

    def _made(self, name: str, maker: image_pools.Maker, counts: Int64Array) -> Batch:
        labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        place = (*self.seed, self.epoch, zlib.crc32(name.encode()))
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
        made = image_pools.checked(Samples(maker(labels, seed), labels), name, self.dataset)
        return labelled(made, self.device)


SHIFT, ROTATION, SCALE = 0.06, 10.0, 0.1
"""Most that a changed copy is shifted (share of the side), turned (degrees) and scaled."""


@dataclass
class Drawing:
    """Draws the epochs of one strategy.

    Attributes:
        rng: the randomness, advanced by every epoch.
        real_counts, changed_counts, synthetic_counts: real images, changed copies of real ones
            and synthetic images per epoch, by class, int64 [classes].
        real, synthetic: where images come from, None where the strategy takes none.
        shares: chance of each member, float64 [members].
    """

    rng: np.random.Generator
    real_counts: Int64Array
    changed_counts: Int64Array
    synthetic_counts: Int64Array
    real: image_pools.ImagePool | None = None
    synthetic: image_pools.ImagePool | FreshPool | None = None
    shares: Float64Array = field(default_factory=lambda: np.ones(1))

    def __call__(self, epoch: int) -> Batch:
        """The images of the next epoch, in the order of training."""
        parts = []
        if self.real is not None:
            parts.append(self.real.batch(self.real_counts[None], self.rng))
            if self.changed_counts.any():
                copies = self.real.batch(self.changed_counts[None], self.rng)
                parts.append(Batch(augmented(copies.images, self.rng), copies.labels))
        if self.synthetic is not None:
            asked = self.synthetic.present, self.synthetic_counts, self.shares
            counts = image_pools.split_by_chance(*asked, self.rng)
            parts.append(self.synthetic.batch(counts, self.rng))
        if len(parts) == 1:
            return parts[0]
        return _shuffled(parts, self.rng)

    @property
    def trained_counts(self) -> Int64Array:
        """Labels an epoch really holds, by class."""
        return self.real_counts + self.changed_counts + self.synthetic_counts


def _shuffled(parts: Sequence[Batch], rng: np.random.Generator) -> Batch:
    images = torch.cat([part.images for part in parts])
    order = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    return Batch(images[order], torch.cat([part.labels for part in parts])[order])


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


def epoch_counts(
    strategy: Strategy, dataset: Dataset, settings: ClassifierSettings
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Real, changed and synthetic images of an epoch, by class; see :class:`Drawing`."""
    times, total = strategy.n_times, settings.images_per_epoch
    real = image_pools.class_counts(dataset, total, "training")
    synthetic = times * image_pools.class_counts(dataset, total, settings.labels)
    none = np.zeros_like(real)
    with_real = strategy.kind in ("real", "real+synthetic", "real+augment")
    return (
        (times if strategy.kind == "real" else 1) * real if with_real else none,
        times * real if strategy.kind == "real+augment" else none,
        synthetic if strategy.members else none,
    )


def make_drawing(
    strategy: Strategy,
    repeat: int,
    dataset: Dataset,
    bank: image_pools.SampleBank,
    settings: ClassifierSettings,
    seed: int,
    pools: Pools | None = None,
) -> Drawing:
    """Load the images of a strategy; the order of drawing depends on (seed, repeat) alone.

    ``pools`` keeps images for other drawings of the same data, settings and seed.

    Raises:
        DataError: members that do not fit the data.
        InputError: an unknown member.
    """
    counts = epoch_counts(strategy, dataset, settings)
    drawing = Drawing(np.random.default_rng([seed, repeat]), *counts)
    pools = {} if pools is None else pools
    if counts[0].any():
        if () not in pools:
            pools[()] = image_pools.ImagePool.real(dataset, settings.device)
        drawing.real = pools[()]
    if strategy.members:
        whose = strategy.members, bank
        drawing.synthetic = _synthetic(*whose, dataset, settings, (seed, repeat), pools)
        weights = strategy.weights or (1.0,) * len(strategy.members)
        drawing.shares = np.array(weights) / sum(weights)
    return drawing


def _synthetic(
    members: tuple[str, ...],
    bank: image_pools.SampleBank,
    dataset: Dataset,
    settings: ClassifierSettings,
    seed: tuple[int, int],
    pools: Pools,
) -> image_pools.ImagePool | FreshPool:
    """The members' images: made anew every epoch where the bank can, else all of them."""
    load = partial(
        image_pools.ImagePool.synthetic,
        bank=bank,
        dataset=dataset,
        memory_mb=settings.memory_mb,
        seed=seed[0],
        device=settings.device,
    )
    makers = tuple(bank.maker(name, settings.device) for name in members)
    if any(makers):
        kept = [name for name, maker in zip(members, makers, strict=True) if maker is None]
        banks = load(kept) if kept else None
        return FreshPool(members, makers, banks, dataset, seed, settings.device)
    key = (id(bank), *members)
    if key not in pools:
        pools[key] = load(members)
        pools[key].require_classes(dataset)
    return pools[key]
