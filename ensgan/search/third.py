"""A third objective: few members, or low cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ensgan.errors import InputError, unknown_name
from ensgan.search.constraints import Budget, costs_of
from ensgan.search.run import ThirdObjective
from ensgan.types import Front, PoolScores

THIRDS = ("members", "cost", "parameters", "seconds")
"""Third objectives: a number of members, or a sum of costs by what it counts."""


def third_objective(
    scores: PoolScores, third: str | None, costs: Mapping[str, float] | None
) -> ThirdObjective | None:
    """``members`` (as few as possible), a sum of ``costs`` by what it counts, or None.

    Raises:
        InputError: another name, or costs that are missing, negative or not finite.
    """
    if third is None:
        return None
    if third == "members":
        return ThirdObjective(np.ones(len(scores)), "members")
    if third not in THIRDS:
        raise InputError(unknown_name("third objective", third, THIRDS))
    if costs is None:
        raise InputError(f"third objective '{third}' needs the cost of every member")
    return ThirdObjective(costs_of(scores.names, costs), third)


def fronts_by_size(scores: PoolScores, sizes: Sequence[int], **options: Any) -> dict[int, Front]:
    """The front of ensembles of at most K members, for every K of ``sizes``.

    Together they are the front of three objectives (Intra-d up, Inter-d down, members down):
    an ensemble of K members is on it exactly when it is on the front of at most K members.

    Args:
        scores: the pool.
        sizes: limits, each at least 2.
        **options: passed to :func:`ensgan.search.search`, except ``max_size``.

    Raises:
        InputError: no sizes, or what :func:`ensgan.search.search` refuses.
    """
    if not sizes:
        raise InputError("name at least one size, e.g. 2, 3, 5")
    from ensgan.search.strategies import search

    return {size: search(scores, max_size=size, **options) for size in sorted(set(sizes))}


def fronts_by_cost(
    scores: PoolScores,
    costs: Mapping[str, float],
    limits: Sequence[float],
    *,
    unit: str = "parameters",
    **options: Any,
) -> dict[float, Front]:
    """The front of ensembles that cost at most each limit: a third objective sampled at limits.

    Args:
        scores: the pool.
        costs: cost of every member (parameters, seconds an image, bytes …).
        limits: budgets.
        unit: what is counted, for messages.
        **options: passed to :func:`ensgan.search.search`, except ``budget``.

    Raises:
        InputError: no limits, a member without cost, or a limit no ensemble meets.
    """
    if not limits:
        raise InputError("name at least one limit of the cost")
    from ensgan.search.strategies import search

    return {
        limit: search(scores, budget=Budget(costs, limit, unit), **options)
        for limit in sorted(set(limits))
    }
