"""What a configuration was worth, for a search that draws the next ones by it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from ensgan.search import search
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.member_job import purpose_seed
from ensgan.sweep.records import MemberResult
from ensgan.sweep.search_stage import score, tables_of
from ensgan.types import gan_of

TRIALS = 1_000
"""Of the search for each front that lacks a configuration."""
FAILED = 0.0
"""What a training that failed is worth: nothing is worse in either objective."""


def worths(
    objective: str, inputs: Inputs, members: Sequence[MemberResult], failed: Collection[str]
) -> dict[str, float]:
    """By configuration, larger is better; those without members that did not fail are left out.

    Args:
        objective: ``intra-d``, the best of its members, or ``hypervolume``, what the front of the
            pool so far loses without it.
        inputs: of the sweep.
        members: of the pool so far, in its order.
        failed: configurations that failed; what of them is a member counts all the same.
    """
    found = dict.fromkeys(failed, FAILED)
    if objective == "hypervolume":
        return {**found, **_contributions(inputs, members)}
    best: dict[str, float] = {}
    for member in members:
        gan = gan_of(member.name)
        best[gan] = max(member.intra_d, best.get(gan, -math.inf))
    return {**found, **best}


def _contributions(inputs: Inputs, members: Sequence[MemberResult]) -> Mapping[str, float]:
    """Hypervolume of the pool's front less that of the front without each configuration."""
    gans: dict[str, list[str]] = {}
    for member in members:
        gans.setdefault(gan_of(member.name), []).append(member.name)
    if len(members) < 2:
        return dict.fromkeys(gans, FAILED)
    scores, _ = score(inputs, members, lambda done, of: None)
    tables, settings = tables_of(inputs, scores, members), inputs.spec.search
    seed = purpose_seed(inputs.spec.seed, "worth")

    def volume(without: Sequence[str]) -> float:
        left = len(members) - len(without)
        if left < max(2, settings.min_size):
            return 0.0
        most = None if settings.max_size is None else min(settings.max_size, left)
        return search(
            scores,
            trials=TRIALS,
            seed=seed,
            objectives=tables,
            min_size=settings.min_size,
            max_size=most,
            exclude=without,
        ).hypervolume

    whole = volume(())
    return {gan: max(0.0, whole - volume(names)) for gan, names in gans.items()}
