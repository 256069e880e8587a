"""A front and the scores of its pool: do they belong together, and which estimates does it rest on?

Where overlaps are estimated, the front of the lowest that the estimates allow is searched, and the
pairs of its ensembles are scored exactly, until they all are. Any other ensemble is then worse than
one of the front even at its lowest, so that the front is that of exact overlaps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from ensgan.errors import InputError
from ensgan.files import sha256_arrays
from ensgan.types import BoolArray, Front, PoolScores


def pool_key(scores: PoolScores) -> str:
    """Content key of a scored pool, 16 hexadecimal digits: a front names the pool it is of."""
    digest = sha256_arrays(
        np.array(scores.names),
        scores.density,
        scores.masks,
        np.nan_to_num(scores.directed),
        np.nan_to_num(scores.overlap),
        np.array([scores.k, scores.n_real]),
        scores.counts,
    )
    return digest[:16]


def check_comparable(first: PoolScores, second: PoolScores) -> None:
    """Refuse to compare scores that were not taken the same way.

    They may be over other real points (a held-out part) or in another embedding.

    Raises:
        InputError: k or sample counts differ.
    """
    if first.k != second.k:
        raise InputError(
            f"scores with k {first.k} and {second.k} cannot be compared: score both the same way"
        )
    if set(first.counts.tolist()) != set(second.counts.tolist()):
        raise InputError(
            f"scores of {first.counts[0]} and of {second.counts[0]} images per member cannot be "
            "compared: score both with the same number of images"
        )


def check_pool(front: Front, scores: PoolScores) -> None:
    """Refuse a front that is not of these scores.

    Raises:
        InputError: the front's pool key differs, or it names members the pool lacks.
    """
    key = pool_key(scores)
    if front.pool and front.pool != key:
        raise InputError(
            f"the front is of another pool ({front.pool}) than the scores ({key}): "
            "search these scores again"
        )
    strangers = {name for point in front for name in point.members} - set(scores.names)
    if strangers:
        raise InputError(f"the front names members the scores lack: {', '.join(sorted(strangers))}")


CONFIDENCE = 0.95
"""Probability that no overlap of any pair of a pool lies below its lowest estimate."""


def lowest(scores: PoolScores, inter: str = "symmetric") -> PoolScores:
    """Scores with the lowest overlaps that the estimates allow; exact ones stay.

    Args:
        scores: of a pool.
        inter: form of Inter-d: the mean of both directions is surer than one of them.
    """
    if scores.spread is None:
        return scores
    error, overlap = scores.spread.astype(np.float64), scores.directed
    if inter == "symmetric":
        error, overlap = np.sqrt(error**2 + error.T**2) / 2, scores.overlap
    # All pairs at once (Bonferroni).
    pairs = len(scores) * (len(scores) - 1) / 2
    width = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / max(1, pairs))
    return replace(scores, directed=scores.directed - np.minimum(width * error, overlap))


def pairs_to_score(
    find: Callable[[PoolScores], Front], inter: str = "symmetric"
) -> Callable[[PoolScores], BoolArray]:
    """For :class:`ensgan.metrics.Approximation`: estimated pairs that the front depends on.

    Args:
        find: searches the front of a pool.
        inter: form of Inter-d that it searches with.
    """

    def choose(scores: PoolScores) -> BoolArray:
        if not scores.estimated.any():
            return scores.estimated
        return scores.estimated & together(find(lowest(scores, inter)), scores)

    return choose


def together(front: Front, scores: PoolScores) -> BoolArray:
    """Pairs of members that are in one ensemble of the front, bool [M,M]."""
    member = np.array([[name in point.members for name in scores.names] for point in front])
    joined = member.T.astype(np.int64) @ member > 0
    np.fill_diagonal(joined, False)
    return np.asarray(joined)


def estimates_on(front: Front, scores: PoolScores) -> int:
    """How many overlaps of the front's ensembles are estimates."""
    return int(np.count_nonzero(together(front, scores) & scores.estimated)) // 2
