"""Scores of all resamples of a pool, gathered from its blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensgan.metrics.blocks import BlockScores
from ensgan.metrics.resampling import kept_count, kept_points
from ensgan.types import Float64Array, Int64Array, Resamples, harmonic_mean


@dataclass(frozen=True)
class _Sizes:
    """Points of every set, the real first, and how many of them a round keeps."""

    whole: Int64Array
    kept: Int64Array


class ResampledSums:
    """Scores of every round, gathered from the blocks of a pool.

    Args:
        names: of the sets, the real first.
        sizes: points of every set.
        k: neighbour that sets the radius.
        rounds: how many, checked (:func:`check_rounds`).
    """

    def __init__(self, names: tuple[str, ...], sizes: Int64Array, k: int, rounds: int) -> None:
        members, width = len(names) - 1, (int(sizes[0]) + 7) // 8
        self._sizes = _Sizes(sizes, np.array([kept_count(int(size)) for size in sizes]))
        self._k = k
        self._rounds = rounds
        self._real = names[0]
        self._density = np.zeros((rounds, members))
        self._masks = np.zeros((rounds, members, width), np.uint8)
        self._directed = np.full((rounds, members, members), np.nan, np.float32)

    def add(self, block: BlockScores) -> None:
        """Take a block over."""
        a, b = np.nonzero(block.wanted)
        g, h = block.rows[a], block.columns[b]
        for role, (balls, points) in enumerate(((g, h), (h, g))):
            density, d = self._measures(balls, points, block.resampled[a, b, role])
            of_real = (balls == 0) & (points > 0)
            self._density[:, points[of_real] - 1] = density[of_real].T
            between = (balls > 0) & (points > 0)
            self._directed[:, balls[between] - 1, points[between] - 1] = d[between].T
        if block.resampled_masks.size:
            scored = block.wanted[0]
            masks = block.resampled_masks[scored].transpose(1, 0, 2)
            self._masks[:, block.columns[scored] - 1] = masks

    def _measures(
        self, balls: Int64Array, points: Int64Array, counts: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Density and d of pairs of sets, [pairs, rounds]; fewer balls hold fewer points."""
        whole, kept = self._sizes.whole, self._sizes.kept
        scale = whole[balls] / (kept[balls] * self._k * kept[points])
        density = np.asarray(counts[:, 0] * scale[:, None], np.float64)
        return density, harmonic_mean(density, counts[:, 1] / kept[balls][:, None])

    def result(self) -> Resamples:
        """All rounds."""
        points = kept_points(self._real, int(self._sizes.whole[0]), self._rounds)
        kept = np.packbits(np.ascontiguousarray(points.T), axis=1)
        return Resamples(kept, self._masks, self._density, self._directed)
