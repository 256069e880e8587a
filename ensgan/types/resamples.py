"""Scores of a pool on random parts of its points and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensgan.types.images import Float32Array, Float64Array, UInt8Array

SHARE = 0.75
"""Part of the real points and of every member's images that a round keeps."""


@dataclass(frozen=True)
class Resamples:
    """Scores of a pool of M members over N real points in B rounds.

    Every round keeps a random three quarters of the real points and of each member's images,
    without replacement and with their balls as they are. A draw with replacement would repeat
    images, and coverage counts different ones.

    Attributes:
        points: uint8 [B, ceil(N/8)] (``numpy.packbits`` order), real points kept.
        masks: uint8 [B, M, ceil(N/8)], kept real points that a kept image of the member reaches.
        density: float64 [B,M], as a pool with all real points would read.
        directed: float32 [B,M,M], d with g carrying the balls; nan on the diagonal.
    """

    points: UInt8Array
    masks: UInt8Array
    density: Float64Array
    directed: Float32Array

    def __len__(self) -> int:
        return len(self.points)

    @property
    def inflation(self) -> float:
        """Factor from the spread over rounds to that over fresh draws.

        Without replacement, the mean of a share s of n values has the variance σ²/n · (1−s)/s.
        Source: the delete-d jackknife, Shao & Wu 1989.
        """
        return float(np.sqrt(SHARE / (1 - SHARE)))

    def part(self, rows: Sequence[int]) -> Resamples:
        """Of these members alone, in this order."""
        chosen = list(rows)
        directed = self.directed[:, chosen][:, :, chosen]
        return Resamples(self.points, self.masks[:, chosen], self.density[:, chosen], directed)
