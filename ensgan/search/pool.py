"""Which pool scores are of, and whether two of them may be compared."""

from __future__ import annotations

import numpy as np

from ensgan.errors import InputError
from ensgan.files import sha256_arrays
from ensgan.types import Front, PoolScores


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
