"""Images made anew for every epoch, by the members that still can."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ensgan.downstream.pool import ImagePool, Maker, SampleBank, checked, split_by_chance
from ensgan.embedding.fit import Batch, labelled
from ensgan.types import Dataset, Float64Array, Int64Array, Samples


@dataclass
class FreshPool:
    """Members that make their images while a classifier trains; the others keep their banks.

    Images depend on the seed, the repeat, the epoch and the member's name, not on who else is
    asked: the same numbers of the same series whatever the strategy.

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
    makers: tuple[Maker | None, ...]
    banks: ImagePool | None
    dataset: Dataset
    seed: tuple[int, int]
    device: str
    epoch: int = 0

    @classmethod
    def of(
        cls,
        members: Sequence[str],
        makers: Sequence[Maker | None],
        bank: SampleBank,
        dataset: Dataset,
        *,
        memory_mb: int,
        seed: tuple[int, int],
        device: str = "cpu",
    ) -> FreshPool:
        """Load the banks of members that have no maker.

        Raises:
            DataError: a bank does not fit the data.
        """
        kept = [name for name, maker in zip(members, makers, strict=True) if maker is None]
        banks = None
        if kept:
            banks = ImagePool.synthetic(
                kept, bank, dataset, memory_mb=memory_mb, seed=seed[0], device=device
            )
        return cls(tuple(members), tuple(makers), banks, dataset, seed, device)

    def split(
        self, class_counts: Int64Array, shares: Float64Array, rng: np.random.Generator
    ) -> Int64Array:
        """As :meth:`ImagePool.split`; a member with a maker has images of every class."""
        present = np.ones((len(self.members), len(class_counts)), np.bool_)
        if self.banks is not None:
            present[self._banked] = self.banks.present
        return split_by_chance(present, class_counts, shares, rng)

    def batch(self, counts: Int64Array, rng: np.random.Generator) -> Batch:
        """The next epoch's images in random order, their sources as members.

        Args:
            counts: int64 [members, classes], images of each.

        Raises:
            DataError: a member makes other images than the data has.
        """
        parts = [
            self._made(index, maker, counts[index])
            for index, maker in enumerate(self.makers)
            if maker is not None and counts[index].any()
        ]
        if self.banks is not None and counts[self._banked].any():
            drawn = self.banks.batch(counts[self._banked], rng)
            assert drawn.members is not None
            places = torch.tensor(self._banked, device=drawn.members.device)
            parts.append(Batch(drawn.images, drawn.labels, places[drawn.members]))
        self.epoch += 1
        sources = [part.members for part in parts if part.members is not None]
        whole = Batch(
            torch.cat([part.images for part in parts]),
            torch.cat([part.labels for part in parts]),
            torch.cat(sources),
        )
        order = torch.from_numpy(rng.permutation(len(whole.images)))
        return whole.part(order.to(whole.images.device))

    @property
    def _banked(self) -> list[int]:
        return [index for index, maker in enumerate(self.makers) if maker is None]

    def _made(self, index: int, maker: Maker, counts: Int64Array) -> Batch:
        name = self.members[index]
        labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        place = (*self.seed, self.epoch, zlib.crc32(name.encode()))
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
        own = labelled(
            checked(Samples(maker(labels, seed), labels), name, self.dataset), self.device
        )
        return Batch(own.images, own.labels, torch.full_like(own.labels, index))
