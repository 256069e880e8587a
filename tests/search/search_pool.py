"""A small made-up pool for the tests of the search."""

from __future__ import annotations

import numpy as np

from ensgan.types import PoolScores


def made_up_pool(seed: int, members: int = 12, points: int = 90, gans: int = 4) -> PoolScores:
    """Scores of a pool whose masks overlap in clumps; counts differ from member to member."""
    rng = np.random.default_rng(seed)
    centre = rng.integers(0, points, members)
    reach = rng.integers(points // 12, points // 3, members)
    covered = (np.arange(points)[None, :] - centre[:, None]) % points < reach[:, None]
    covered &= rng.random((members, points)) < 0.8
    directed = rng.random((members, members)) * 0.9
    directed[rng.random((members, members)) < 0.2] = 0.0
    np.fill_diagonal(directed, np.nan)
    return PoolScores(
        names=tuple(f"GAN{i % gans}@{20000 * (1 + i // gans)}" for i in range(members)),
        density=rng.uniform(0.1, 1.2, members),
        coverage=covered.mean(axis=1),
        masks=np.packbits(covered, axis=1),
        directed=directed,
        k=5,
        n_real=points,
        counts=rng.integers(50, 90, members),
    )


def every_subset(members: int = 8) -> np.ndarray:
    codes = np.arange(1 << members)
    subsets = (codes[:, None] >> np.arange(members) & 1).astype(bool)
    return subsets[subsets.sum(axis=1) >= 2]
