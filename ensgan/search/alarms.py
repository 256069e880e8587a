"""What has to be said of a chosen ensemble, in plain sentences, wherever it is shown."""

from __future__ import annotations

from collections.abc import Mapping

from ensgan.types import FrontPoint, PoolScores

NOTHING_REACHED = 5e-4
"""Intra-d below it reads 0.000."""
BEHIND = 0.9
"""An ensemble is the mean of its members, so a little below the best of them is no news."""


def member_intra_d(scores: PoolScores) -> dict[str, float]:
    """Capped Intra-d of every member of a pool, alone."""
    return dict(zip(scores.names, map(float, scores.capped_intra_d), strict=True))


def cautions(point: FrontPoint, alone: Mapping[str, float]) -> tuple[str, ...]:
    """What is wrong with a selected ensemble; empty where nothing is.

    Args:
        point: the chosen point of a front.
        alone: Intra-d of every member of the pool, alone.

    Returns:
        sentences without a full stop: nothing in the pool reaches a real image; members that do
        not, and their share of the images; an Intra-d below 0.9 of the best single member's (only
        of fronts whose first objective is Intra-d).
    """
    best = max(alone, key=lambda name: alone[name])
    if alone[best] < NOTHING_REACHED:
        return (
            "no member of the pool reaches any real image yet (Intra-d 0.000 throughout): train "
            "longer before believing any number here",
        )
    said = []
    shares = point.weights or (1 / len(point.members),) * len(point.members)
    empty = {
        name: share
        for name, share in zip(point.members, shares, strict=True)
        if alone[name] < NOTHING_REACHED
    }
    if empty:
        verb = "reaches" if len(empty) == 1 else "reach"
        makes = "makes" if len(empty) == 1 else "make"
        said.append(
            f"{', '.join(empty)} {verb} no real image yet (Intra-d 0.000) and {makes} "
            f"{sum(empty.values()):.0%} of the images of G*"
        )
    # Members are measured in the paper's form, whatever form the front has.
    own = dict(point.measures).get("intra_d_paper", point.first)
    if point.keys[0] == "intra_d" and own < BEHIND * alone[best]:
        said.append(
            f"G* (Intra-d {own:.3f}) is below the best single member, {best} ({alone[best]:.3f})"
        )
    return tuple(said)
