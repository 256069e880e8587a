"""The same ensembles under other scores, and fronts side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ensgan.errors import InputError
from ensgan.search.evaluator import Evaluator
from ensgan.types import Front, FrontPoint, PoolScores


def rescore(front: Front, scores: PoolScores) -> tuple[FrontPoint, ...]:
    """The same ensembles under other scores, in front order.

    For scores of a held-out part of the real data it shows the winner's curse (the front was
    chosen because it scored well on the points it is measured on), for another embedding whether
    the choice depends on it, for fresh samples how much the draw of images matters.

    Raises:
        InputError: the scores lack a member of the front.
    """
    evaluator = Evaluator(scores, inter=inter_form(front))
    points = []
    for point in front:
        members = evaluator.indices(point.members)
        weights = None
        if point.weights is not None:
            by_name = dict(zip(point.members, point.weights, strict=True))
            weights = [by_name[evaluator.names[m]] for m in members]
        intra, inter, density, coverage = evaluator.evaluate(members, weights)
        names = tuple(evaluator.names[m] for m in members)
        points.append(
            FrontPoint(
                names,
                intra,
                inter,
                density,
                coverage,
                None if weights is None else tuple(weights),
                # What the members cost does not depend on the scores.
                tuple(each for each in point.measures if each[0] == front.third),
            )
        )
    return tuple(points)


def shared_members(fronts: Sequence[Front]) -> dict[str, tuple[float, ...]]:
    """For every member on any front, the share of each front's points that hold it.

    Puts fronts of other embeddings side by side; most frequent first.
    """
    counts = [Counter(name for point in front for name in point.members) for front in fronts]
    names = sorted(set().union(*counts), key=lambda name: (-sum(c[name] for c in counts), name))
    return {
        name: tuple(c[name] / max(1, len(front)) for c, front in zip(counts, fronts, strict=True))
        for name in names
    }


def inter_form(front: Front) -> str:
    """The form of Inter-d of a front of Intra-d and Inter-d."""
    if front.objectives and not front.objectives[0].startswith("intra_d"):
        raise InputError(
            f"the front's objectives are {', '.join(front.objectives)}: only fronts of Intra-d and "
            "Inter-d can be resampled or scored again"
        )
    return front.objectives[1].rpartition(":")[2] if len(front.objectives) > 1 else "symmetric"
