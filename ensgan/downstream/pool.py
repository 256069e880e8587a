"""The images a classifier may train on: where they come from, and drawing an epoch of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import torch

from ensgan import types
from ensgan.embedding.fit import Batch, labelled
from ensgan.errors import DataError, InputError, unknown_name
from ensgan.types import BoolArray, Dataset, Float64Array, Int64Array, Samples, UInt8Array

Maker: TypeAlias = Callable[[Int64Array, int], UInt8Array]
"""Labels int64 [n] and a seed in [0, 2⁶⁴) → one image each, uint8 [n,H,W] or [n,H,W,3]; equal
arguments give equal images."""


class SampleBank(Protocol):
    """Gives the images of a member by name."""

    def load(self, name: str) -> Samples:
        """Images and labels of one member."""

    def maker(self, name: str, device: str) -> Maker | None:
        """What makes images of one member anew, on a device; None: use those of :meth:`load`."""


@dataclass(frozen=True)
class MemoryBank:
    """Members that are already in memory, and what makes images anew where something does."""

    members: Mapping[str, Samples]
    makers: Mapping[str, Maker] = field(default_factory=dict)

    def maker(self, name: str, device: str) -> Maker | None:
        """What makes images of one member anew, None where nothing does."""
        return self.makers.get(name)

    def load(self, name: str) -> Samples:
        """Images of one member.

        Raises:
            InputError: there is no such member.
        """
        if name not in self.members:
            raise InputError(unknown_name("member", name, self.members))
        return self.members[name]


@dataclass(frozen=True)
class ImagePool:
    """Images of several sources (members, or the real training split).

    Attributes:
        images: uint8 [n,C,H,W] on the device; grey and RGB alike.
        labels: int64 [n] on the device.
        groups: ``groups[g][c]``: indices of the images of source g and class c, int64.
    """

    images: torch.Tensor
    labels: torch.Tensor
    groups: tuple[tuple[Int64Array, ...], ...]

    @classmethod
    def real(cls, dataset: Dataset, device: str = "cpu") -> ImagePool:
        """The real training split as the only source."""
        batch = labelled(dataset.train, device)
        groups = _by_class(dataset.train.labels, dataset.num_classes, 0)
        return cls(batch.images, batch.labels, (groups,))

    @classmethod
    def synthetic(
        cls,
        members: Sequence[str],
        bank: SampleBank,
        dataset: Dataset,
        *,
        memory_mb: int,
        seed: int,
        device: str = "cpu",
    ) -> ImagePool:
        """The images of members, one source each.

        When all images together need more than ``memory_mb``, every member keeps an equal number,
        drawn at random from its own without replacement.

        Raises:
            DataError: a member's images have another shape or other classes than the data.
        """
        shape = dataset.train.images.shape[1:]
        quota = max(1, (memory_mb << 20) // (len(members) * math.prod(shape)))
        rng = np.random.default_rng([seed, 1])
        # Pages of a fresh array are only taken up when written: no second copy is ever held.
        images = np.empty((quota * len(members), *shape), np.uint8)
        labels = np.empty(len(images), np.int64)
        groups, used = [], 0
        for name in members:
            samples = checked(bank.load(name), name, dataset)
            rows = np.arange(len(samples))
            if len(samples) > quota:
                rows = np.sort(rng.choice(len(samples), quota, replace=False))
            end = used + len(rows)
            np.take(samples.images.reshape(-1, *shape), rows, axis=0, out=images[used:end])
            labels[used:end] = samples.labels[rows]
            groups.append(_by_class(labels[used:end], dataset.num_classes, used))
            used = end
        batch = labelled(Samples(images[:used], labels[:used]), device)
        return cls(batch.images, batch.labels, tuple(groups))

    def require_classes(self, dataset: Dataset) -> None:
        """Refuse a pool in which no source has an image of some class.

        Raises:
            DataError: it is one.
        """
        for index, name in enumerate(dataset.class_names):
            if not self.present[:, index].any():
                raise DataError(
                    f"none of the {len(self.groups)} members has an image of class '{name}': "
                    "sample them with labels of every class"
                )

    def draw(self, counts: Int64Array, rng: np.random.Generator) -> Int64Array:
        """Draw images without replacement within each group (in rounds where it is too small).

        Args:
            counts: int64 [sources, classes], how many of each group.
            rng: the randomness.

        Returns:
            Indices into the pool, int64 [counts.sum()], in random order.
        """
        parts = [
            _choose(self.groups[source][label], int(counts[source, label]), rng)
            for source, label in zip(*np.nonzero(counts), strict=True)
        ]
        indices = np.concatenate(parts) if parts else np.empty(0, np.int64)
        return indices[rng.permutation(len(indices))]

    @property
    def present(self) -> BoolArray:
        """Which sources have images of which classes, bool [sources, classes]."""
        return np.array([[len(rows) > 0 for rows in group] for group in self.groups])

    def batch(self, counts: Int64Array, rng: np.random.Generator) -> Batch:
        """The images that :meth:`draw` draws."""
        rows = torch.from_numpy(self.draw(counts, rng)).to(self.images.device)
        return Batch(self.images[rows], self.labels[rows])


def split_by_chance(
    present: BoolArray, class_counts: Int64Array, shares: Float64Array, rng: np.random.Generator
) -> Int64Array:
    """How many images each source gives of each class, int64 [sources, classes].

    Every image is drawn from a source by its share; sources without a class are left out of that
    class (``present``, bool [sources, classes]).
    """
    counts = np.zeros(present.shape, np.int64)
    for label, count in enumerate(class_counts):
        chance = shares * present[:, label]
        if chance.sum() == 0:
            chance = present[:, label].astype(np.float64)
        counts[:, label] = rng.multinomial(int(count), chance / chance.sum())
    return counts


def class_counts(dataset: Dataset, total: int | None, labels: str) -> Int64Array:
    """Images of each class in an epoch of ``total`` (None: size of the training split).

    ``labels`` is ``"training"`` (proportions of the training split, by largest remainder) or
    ``"uniform"``. Every class has at least one image.
    """
    real = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    shares = real / real.sum() if labels == "training" else np.full(len(real), 1 / len(real))
    return np.maximum(types.apportion(shares, int(real.sum()) if total is None else total), 1)


def _by_class(labels: Int64Array, classes: int, offset: int) -> tuple[Int64Array, ...]:
    return tuple(np.flatnonzero(labels == label) + offset for label in range(classes))


def _choose(rows: Int64Array, count: int, rng: np.random.Generator) -> Int64Array:
    rounds, rest = divmod(count, len(rows))
    chosen = [rows] * rounds
    if rest:
        chosen.append(rng.choice(rows, rest, replace=False))
    return np.concatenate(chosen)


def label_outside(labels: Int64Array, dataset: Dataset) -> int | None:
    """The first label outside the data's classes; None where all are inside."""
    wrong = labels[(labels < 0) | (labels >= dataset.num_classes)]
    return int(wrong[0]) if len(wrong) else None


def checked(samples: Samples, name: str, dataset: Dataset) -> Samples:
    """Refuse images of another shape or other classes than the data, and no images at all."""
    shape, wanted = samples.shape, dataset.shape
    if shape != wanted:
        raise DataError(
            f"the images of {name} are {shape.size}×{shape.size} with {shape.channels} channel(s), "
            f"those of {dataset.name} are {wanted.size}×{wanted.size} with {wanted.channels} "
            "channel(s): evaluate an ensemble on the data it was trained for"
        )
    if not len(samples):
        raise DataError(f"{name} has no images: sample it first")
    wrong = label_outside(samples.labels, dataset)
    if wrong is not None:
        raise DataError(
            f"{name} has label {wrong}, but {dataset.name} has the classes "
            f"0…{dataset.num_classes - 1}"
        )
    return samples
