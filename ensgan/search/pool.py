"""Which pool scores are of, and whether two of them may be compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence

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


def check_comparable(pools: Sequence[PoolScores], *, besides: Collection[str] = ()) -> None:
    """Refuse to compare scores that were not taken the same way.

    Args:
        pools: two and more.
        besides: what may differ on purpose: ``n_real`` for a held-out part of the real data,
            ``extractor`` for another embedding.

    Raises:
        InputError: k, sample counts, number of real points or extractor differ.
    """
    first = pools[0]
    for other in pools[1:]:
        for field in ("k", "n_real", "extractor"):
            if field not in besides and getattr(first, field) != getattr(other, field):
                raise InputError(
                    f"scores with {field} {getattr(first, field)!r} and "
                    f"{getattr(other, field)!r} cannot be compared: score both the same way"
                )
        if set(first.counts.tolist()) != set(other.counts.tolist()):
            raise InputError(
                f"scores of {first.counts[0]} and of {other.counts[0]} images a member cannot be "
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
