"""A front under other scores: scored again, side by side with others, weighted, resampled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ensgan.errors import InputError
from ensgan.search import search
from ensgan.search.evaluator import Evaluator
from ensgan.search.forms import FORMS, find_form
from ensgan.search.ledger import ReportProgress
from ensgan.search.pools import check_pool
from ensgan.search.tables import Values
from ensgan.types import Front, FrontPoint, PoolScores

_SEARCH_TRIALS = 30_000
_MOST_ROUNDS = 100_000


@dataclass(frozen=True)
class Interval:
    """An interval of an objective."""

    low: float
    high: float


@dataclass(frozen=True)
class FrontConfidence:
    """What resampling says about a front.

    Attributes:
        level: probability of the intervals, e.g. 0.95.
        rounds: resamples behind the intervals.
        covers: what was drawn again: ``("real points",)``, or ``("real points", "images")``.
        first, coverage: one interval per front point, in front order.
        second: likewise; None when only real points were drawn again, on which it does not
            depend.
        membership: for every member, the share of re-searched resamples with it on the front.
        searches: resamples behind ``membership``.
    """

    level: float
    rounds: int
    covers: tuple[str, ...]
    first: tuple[Interval, ...]
    coverage: tuple[Interval, ...]
    second: tuple[Interval, ...] | None
    membership: dict[str, float]
    searches: int


def bootstrap(
    front: Front,
    scores: PoolScores,
    *,
    rounds: int = 1000,
    searches: int = 0,
    level: float = 0.95,
    seed: int = 0,
    costs: Mapping[str, float] | None = None,
    on_progress: ReportProgress | None = None,
) -> FrontConfidence:
    """Intervals of the objectives of every front point.

    Scores that hold ``resamples`` (``ensgan score --resamples 200``) give intervals of both
    objectives over fresh real points and fresh images: the spread over their rounds, each a random
    three quarters of everything, scaled up to the whole (:attr:`Resamples.inflation`) and centred
    on the front's own values.

    From other scores only the real points can be drawn, with replacement: Intra-d's interval is too
    narrow then, and Inter-d has none. Coverage follows exactly from the masks; for density each
    covered point is taken to hold an equal share of a member's images.

    Args:
        front: the front.
        scores: the pool it is of.
        rounds: resamples for the intervals; at most those that the scores hold, if they hold any.
        searches: resamples that are searched again (0.1–0.5 s each) to see which members
            stay on the front.
        level: probability of the intervals.
        seed: seed of the resampling; the rounds that scores hold are what they are.
        costs: every member's cost, for searches of a front whose third objective sums costs.
        on_progress: called with (done, total) after every search.

    Raises:
        InputError: a front of another pool, numbers out of range, or costs that are missing.
    """
    check_pool(front, scores)
    if not (1 <= rounds <= _MOST_ROUNDS and 0 <= searches <= _MOST_ROUNDS and 0 < level < 1):
        raise InputError(
            f"bootstrap of {rounds} rounds, {searches} searches, level {level}: use rounds from 1 "
            f"and searches from 0 to {_MOST_ROUNDS:,}, and 0 < level < 1"
        )
    whole, resamples = _values(front, scores), scores.resamples
    covers, draw = ["real points"], _point_draws(scores, seed)
    if resamples is not None:
        covers, draw = ["real points", "images"], scores.resample
        rounds, searches = min(rounds, len(resamples)), min(searches, len(resamples))
    drawn = [_values(front, draw(number)) for number in range(rounds)]

    def intervals(name: str, most: float = np.inf) -> tuple[Interval, ...]:
        draws = np.array([getattr(values, name) for values in drawn])
        if resamples is not None:
            # Fewer images reach fewer points: the deviations are from the rounds' own mean.
            deviation = resamples.inflation * (draws - draws.mean(axis=0))
            # No density, coverage or overlap is below 0.
            draws = np.maximum(0.0, getattr(whole, name) + deviation)
        ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return tuple(Interval(low, min(most, high)) for low, high in ends.T.tolist())

    first, coverage = intervals("first"), intervals("coverage", most=1.0)
    second = None if resamples is None else intervals("second")
    membership = _membership(front, scores.names, draw, searches, costs, on_progress)
    return FrontConfidence(
        level, rounds, tuple(covers), first, coverage, second, membership, searches
    )


def _point_draws(scores: PoolScores, seed: int) -> Callable[[int], PoolScores]:
    """The scores over fresh draws of the real points, balls and images kept as they are."""
    random, n = np.random.default_rng(seed), scores.n_real
    covered = np.unpackbits(scores.masks, axis=1, count=n).astype(np.bool_)
    total = covered.sum(axis=1, keepdims=True)
    # Each real point's part of each member's density, [M, N]; rows sum to the density.
    shares = scores.density[:, None] * covered / np.where(total > 0, total, 1.0)

    def draw(number: int) -> PoolScores:
        chosen = random.integers(0, n, n)
        drawn = covered[:, chosen]
        return replace(
            scores,
            density=shares[:, chosen].sum(axis=1),
            coverage=drawn.mean(axis=1),
            masks=np.packbits(drawn, axis=1),
        )

    return draw


def _values(front: Front, scores: PoolScores) -> Values:
    """The front's ensembles under other scores."""
    evaluator = evaluator_of(front, scores)
    return evaluator(evaluator.subsets(evaluator.indices(point.members) for point in front))


def _membership(
    front: Front,
    names: Sequence[str],
    draw: Callable[[int], PoolScores],
    searches: int,
    costs: Mapping[str, float] | None,
    on_progress: ReportProgress | None,
) -> dict[str, float]:
    """Search resamples again: the share of them with each member on the front."""
    seen: Counter[str] = Counter()
    for number in range(searches):
        again = search(
            draw(number),
            trials=_SEARCH_TRIALS,
            seed=number,
            inter=inter_of(front),
            objectives=front.form,
            third=front.third,
            costs=costs,
        )
        seen.update({name for point in again for name in point.members})
        if on_progress is not None:
            on_progress(number + 1, searches)
    return {name: seen[name] / searches for name in names if searches}


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
            share_of = dict(zip(point.members, point.weights, strict=True))
            shares = [share_of[evaluator.names[index]] for index in members]
            again = evaluator.weighted_point(members, shares)
        # What the members cost does not depend on the scores.
        third = tuple(measure for measure in point.measures if measure[0] == front.third)
        points.append(replace(again, measures=(*again.measures, *third)))
    return tuple(points)


def check_values(front: Front, scores: PoolScores) -> None:
    """Refuse a front whose values are not those that its own scores give its ensembles.

    A front of a form that needs more than scores, or is not known here, passes.

    Raises:
        InputError: of which ensemble, with both values.
    """
    if not front.pool or front.form not in FORMS.names() or find_form(front.form).needs_features:
        return
    for point, again in zip(front, rescore(front, scores), strict=True):
        for recorded, measured in ((point.first, again.first), (point.second, again.second)):
            if not math.isclose(recorded, measured, rel_tol=1e-6, abs_tol=1e-9):
                raise InputError(
                    f"the front says {recorded:.6g} of {', '.join(point.members)}, its scores say "
                    f"{measured:.6g}: search these scores again"
                )


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
