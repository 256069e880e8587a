"""Member weights after the subset is chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ensgan.errors import InputError
from ensgan.search.evaluator import Evaluator
from ensgan.types import FrontPoint


def optimise_weights(evaluator: Evaluator, point: FrontPoint, floor: float = 0.5) -> FrontPoint:
    """The weights on the simplex that maximise Intra-d of a chosen ensemble, in closed form.

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
    intra, inter, mean_density, coverage = evaluator.evaluate(members, weights.tolist())
    if intra <= point.intra_d:
        return point
    return replace(
        point,
        members=tuple(evaluator.names[m] for m in members),
        intra_d=intra,
        inter_d=inter,
        density=mean_density,
        coverage=coverage,
        weights=tuple(weights.tolist()),
    )
