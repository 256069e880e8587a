"""Label consistency: whether members' images show the classes they were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

AT_CHANCE = 0.05
"""Shares so near to chance are no better than that: two standard errors of 400 images."""
TELLS = 0.1
"""How far above chance the classifier must be on real images for its word to count; where one
class has nearly all images and chance is above a half, so much of what is left, twice."""
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
    def tells(self) -> bool:
        """Whether the classifier can tell the classes of real images: else its word is nothing."""
        return self.real >= self.real_chance + TELLS * min(1.0, 2 * (1 - self.real_chance))

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
        if not self.tells:
            return ()
        shares = np.array(list(self.members.values()))
        spread = 1.4826 * float(np.median(np.abs(shares - self.median)))
        low = self.median - max(FAR, SPREADS * spread)
        names = []
        for name, share in self.members.items():
            chance = self.chance[name]
            behind = share <= chance + AT_CHANCE and np.count_nonzero(shares >= share + FAR) >= 2
            if share < low or share < chance - FAR or behind:
                names.append(name)
        return tuple(names)
