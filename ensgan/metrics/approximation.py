"""How far products that decide alone (``--fast``) are from exact scores, measured on some pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensgan.metrics.blocks import BlockScores
from ensgan.metrics.exact import BoolArray
from ensgan.metrics.sums import Sums
from ensgan.types import Int64Array

SAMPLED_PAIRS = 12
"""Pairs scored again exactly: a fraction of a percent of a pool of a hundred members."""


@dataclass(frozen=True)
class FastError:
    """Largest differences from exact scores over the sampled pairs, both directions.

    Attributes:
        pairs: how many were scored again.
        density, coverage, d: largest absolute differences.
        hits: largest relative difference of a hit count.
    """

    pairs: int
    density: float
    coverage: float
    d: float
    hits: float

    def to_json(self) -> dict[str, Any]:
        """As ``ensgan score --fast --json`` prints it."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"fast scores, checked on {self.pairs} pairs: density off by at most "
            f"{self.density:.2g}, coverage by {self.coverage:.2g}, d by {self.d:.2g}, "
            f"hit counts by {100 * self.hits:.2g} %"
        )


def sample_pairs(wanted: BoolArray) -> list[tuple[int, int]]:
    """Evenly spaced pairs of sets [a,b], half of them with the real set (index 0)."""
    pairs = np.argwhere(wanted)
    chosen = []
    for part in (pairs[pairs[:, 0] == 0], pairs[pairs[:, 0] > 0]):
        index = np.linspace(0, len(part) - 1, SAMPLED_PAIRS // 2).round().astype(int)
        chosen += [(int(a), int(b)) for a, b in part[np.unique(index)]] if len(part) else []
    return chosen


def measure_error(fast: Sums, exact: Iterable[BlockScores], sizes: Int64Array, k: int) -> FastError:
    """Compare the sums of a fast pool with blocks that were scored exactly.

    Args:
        fast: of the whole pool.
        exact: blocks of some of its pairs.
        sizes: int64, points of every set, the real set first.
        k: neighbour that sets the radius.
    """
    truth = Sums(len(sizes), 0)
    pairs: list[tuple[int, int]] = []
    for block in exact:
        truth.add(block)
        a, b = np.nonzero(block.wanted)
        pairs += zip(block.rows[a].tolist(), block.columns[b].tolist(), strict=True)
    g, h = np.array([*pairs, *((h, g) for g, h in pairs)]).T
    density, coverage, d = (
        float(np.abs(ours[g, h] - theirs[g, h]).max())
        for ours, theirs in zip(fast.measures(sizes, k), truth.measures(sizes, k), strict=True)
    )
    counts = [np.maximum(each.hits[g, h], 1) for each in (fast, truth)]
    return FastError(
        len(pairs), density, coverage, d, float(np.abs(counts[0] / counts[1] - 1).max())
    )
