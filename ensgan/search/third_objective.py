"""A third objective: few members, or low cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ensgan.errors import InputError, unknown_name
from ensgan.search.constraints import costs_of
from ensgan.search.ledger import ThirdObjective
from ensgan.types import PoolScores

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
