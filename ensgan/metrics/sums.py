"""Counts of all pairs of a pool, gathered from its blocks."""

from __future__ import annotations

import numpy as np

from ensgan.metrics.blocks import BlockScores
from ensgan.metrics.exact import BoolArray
from ensgan.types import Float64Array, Int64Array, PoolScores, UInt8Array, harmonic_mean


class Sums:
    """Counts of all pairs so far; [g,h] holds the balls of g and the points of h.

    Args:
        sets: members and the real set (index 0).
        width: bytes of a coverage mask, 0 to do without masks.
    """

    def __init__(self, sets: int, width: int) -> None:
        self.hits: Int64Array = np.zeros((sets, sets), np.int64)
        self._reached: Int64Array = np.zeros((sets, sets), np.int64)
        self._covered: Int64Array = np.zeros((sets, sets), np.int64)
        self._masks: UInt8Array = np.zeros((sets, width), np.uint8)

    def add(self, block: BlockScores) -> None:
        """Take a block over."""
        a, b = np.nonzero(block.wanted)
        g, h = block.rows[a], block.columns[b]
        for target, counts in (
            (self.hits, block.hits),
            (self._reached, block.reached),
            (self._covered, block.covered),
        ):
            target[g, h], target[h, g] = counts[a, b, 0], counts[a, b, 1]
        if block.masks.size and self._masks.size:
            self._masks[block.columns] = block.masks

    def measures(self, size: Int64Array, k: int) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Density, coverage and d, [sets,sets] each; ``size``: points of every set."""
        density: Float64Array = self.hits / (k * size[None, :])
        coverage: Float64Array = self._reached / size[:, None]
        return density, coverage, np.asarray(harmonic_mean(density, coverage))

    def scores(
        self, names: tuple[str, ...], size: Int64Array, k: int, extractor: str
    ) -> PoolScores:
        """Densities, masks and overlaps; ``size`` are the points of every set, the real first."""
        density, coverage, d = self.measures(size, k)
        directed = d[1:, 1:].copy()
        np.fill_diagonal(directed, np.nan)
        return PoolScores(
            names,
            density=density[0, 1:],
            coverage=coverage[0, 1:],
            masks=self._masks[1:],
            directed=directed,
            overlap=(directed + directed.T) / 2,
            k=k,
            n_real=int(size[0]),
            counts=size[1:],
            extractor=extractor,
        )

    def precision_recall(
        self, scores: PoolScores, scored: BoolArray
    ) -> tuple[Float64Array, Float64Array]:
        """Precision and recall of every member, nan where it was not ``scored``."""
        precision = self._covered[0, 1:] / scores.counts
        recall = self._covered[1:, 0] / scores.n_real
        return np.where(scored, precision, np.nan), np.where(scored, recall, np.nan)
