"""The archive of three objectives."""

from __future__ import annotations

import numpy as np

from ensgan.search.pareto import TIE, Archive, hypervolume, pareto_front
from ensgan.types import Float64Array, Int64Array

_SLICES = 16


class CostArchive(Archive):
    """The non-dominated subsets of three objectives: the third is a cost, minimised.

    Kept in the order of entry; every candidate is compared with all.

    Args:
        most: the whole pool's cost, the reference of the hypervolume.
    """

    def __init__(self, most: float = 1.0) -> None:
        super().__init__()
        self.most = most
        self.cost: Float64Array = np.zeros(0)

    def candidates(
        self, intra: Float64Array, inter: Float64Array, cost: Float64Array
    ) -> Int64Array:
        """Indices of the values that no subset in here dominates."""
        # nan: no pair, no ensemble.
        entering = np.isfinite(inter) & (intra > self.best_intra(inter, cost) + TIE)
        return np.flatnonzero(entering)

    def best_intra(self, inter: Float64Array, cost: Float64Array) -> Float64Array:
        """The largest Intra-d in here at most this Inter-d and cost, -inf where there is none."""
        order = np.argsort(-self.intra, kind="stable")
        levels = np.append(self.intra[order], -np.inf)
        best = np.empty(len(inter))
        step = max(1, (1 << 20) // max(1, len(self)))
        for start in range(0, len(inter), step):
            rows = slice(start, start + step)
            as_good = np.ones((len(inter[rows]), len(self) + 1), bool)
            as_good[:, :-1] = self.inter[order] <= inter[rows, None] + TIE
            as_good[:, :-1] &= self.cost[order] <= cost[rows, None] + TIE
            best[rows] = levels[as_good.argmax(axis=1)]
        return best

    def gains(self, intra: Float64Array, inter: Float64Array, cost: Float64Array) -> Float64Array:
        """Volume that each value alone would add, up to the largest cost in here and there.

        Between two costs the front of the subsets that are cheap enough is constant. With many
        different costs a few of them stand for all: the order of the values is what matters.
        """
        costs = np.unique(np.concatenate((self.cost, cost)))
        if len(costs) > _SLICES:
            costs = np.unique(np.quantile(costs, np.linspace(0, 1, _SLICES), method="nearest"))
        # The dearest subsets count too: one more slice as thick as the mean.
        thickness = np.append(np.diff(costs), (np.ptp(costs) or 1.0) / len(costs))
        total = np.zeros(len(intra))
        for level, thick in zip(costs, thickness, strict=True):
            reach = np.flatnonzero(cost <= level + TIE)
            below = np.flatnonzero(self.cost <= level + TIE)
            flat = Archive()
            values = np.column_stack((self.intra[below], self.inter[below]))
            kept = below[pareto_front(values)][::-1]
            flat.intra, flat.inter = self.intra[kept], self.inter[kept]
            total[reach] += thick * flat.gains(intra[reach], inter[reach], cost[reach])
        return total

    def insert(
        self, intra: float, inter: float, members: tuple[int, ...], cost: float = 0.0
    ) -> bool:
        """Add one subset and drop those it dominates; False when it does not enter."""
        as_good = (self.intra >= intra - TIE) & (self.inter <= inter + TIE)
        if (as_good & (self.cost <= cost + TIE)).any():
            return False
        stays = (self.intra > intra + TIE) | (self.inter < inter - TIE) | (self.cost < cost - TIE)
        self.intra = np.append(self.intra[stays], intra)
        self.inter = np.append(self.inter[stays], inter)
        self.cost = np.append(self.cost[stays], cost)
        self.members = [m for m, stay in zip(self.members, stays, strict=True) if stay] + [members]
        self.entries += 1
        return True

    def steps(self) -> Float64Array:
        """All alike, the earliest first."""
        return -np.arange(len(self), dtype=np.float64)

    def hypervolume(self) -> float:
        """The volume, its third side in parts of the whole pool's cost."""
        return hypervolume(np.column_stack((self.intra, self.inter, self.cost)), self.most)
