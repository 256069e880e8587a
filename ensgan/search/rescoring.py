"""Chosen ensembles evaluated again: under other scores, with member weights, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ensgan.errors import InputError
from ensgan.search.evaluator import Evaluator
from ensgan.search.forms import find_form
from ensgan.types import Front, FrontPoint, PoolScores


def evaluator_of(front: Front, scores: PoolScores) -> Evaluator:
    """The objectives of a front, over any scores.

    Raises:
        InputError: the form of the front needs more than scores.
    """
    if find_form(front.form).needs_features:
        raise InputError(
            f"the front's objectives are {', '.join(front.objectives)}: only fronts of Intra-d and "
            "Inter-d can be resampled or scored again"
        )
    return Evaluator(scores, inter=inter_of(front), objectives=front.form)


def inter_of(front: Front) -> str:
    """The form of Inter-d of a front."""
    return front.axes[1].variant or "symmetric"


def rescore(front: Front, scores: PoolScores) -> tuple[FrontPoint, ...]:
    """The same ensembles under other scores, in front order.

    For scores of a held-out part of the real data it shows the winner's curse (the front was
    chosen because it scored well on the points it is measured on), for another embedding whether
    the choice depends on it, for fresh samples how much the draw of images matters.

    Raises:
        InputError: the scores lack a member of the front.
    """
    evaluator = evaluator_of(front, scores)
    points = []
    for point in front:
        members = evaluator.indices(point.members)
        if point.weights is None:
            again = evaluator.front_points([members])[0]
        else:
            by_name = dict(zip(point.members, point.weights, strict=True))
            weights = [by_name[evaluator.names[m]] for m in members]
            again = evaluator.weighted_point(members, weights)
        # What the members cost does not depend on the scores.
        third = tuple(measure for measure in point.measures if measure[0] == front.third)
        points.append(replace(again, measures=(*again.measures, *third)))
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


def optimise_weights(evaluator: Evaluator, point: FrontPoint, floor: float = 0.5) -> FrontPoint:
    """The weights on the simplex that maximise the first objective of an ensemble, in closed form.

    Density is linear in the weights and coverage the same for all positive weights, so the best
    weights give every member its floor and the rest to the densest. Without a floor all weight
    would go to one member while the others still counted for coverage on paper; images drawn in
    those shares would not reach their points. Inter-d does not depend on weights.

    Args:
        evaluator: objectives of the pool the point is of.
        point: the chosen ensemble.
        floor: least weight of a member as a fraction of its uniform share, in (0, 1].

    Returns:
        The point with weights and its values under them; the point itself when uniform weights
        are as good (equal densities, or ``floor`` 1).

    Raises:
        InputError: ``floor`` outside (0, 1], or a member the pool lacks.
    """
    if not 0 < floor <= 1:
        raise InputError(f"floor {floor} must be above 0 and at most 1")
    members = evaluator.indices(point.members)
    density = evaluator.tables.linear[list(members)]
    weights = np.full(len(members), floor / len(members))
    weights[int(np.argmax(density))] += 1.0 - weights.sum()
    best = evaluator.weighted_point(members, weights.tolist())
    if best.first <= point.first:
        return point
    third = tuple(measure for measure in point.measures if measure[0] not in dict(best.measures))
    return replace(best, measures=(*best.measures, *third))
