"""How sure is a front? Bootstrap over the real points; the same ensembles under other scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ensgan.errors import InputError
from ensgan.search.evaluator import Evaluator
from ensgan.search.run import ReportProgress
from ensgan.search.select import check_pool
from ensgan.search.strategies import search
from ensgan.types import Float64Array, Front, FrontPoint, PoolScores, harmonic_mean

_SEARCH_TRIALS = 30_000


@dataclass(frozen=True)
class Interval:
    """A bootstrap percentile interval."""

    low: float
    high: float


@dataclass(frozen=True)
class FrontConfidence:
    """What a bootstrap says about a front.

    Attributes:
        level: probability of the intervals, e.g. 0.95.
        rounds: resamples behind the intervals.
        intra_d, coverage: one interval a front point, in front order.
        membership: for every member, the share of re-searched resamples with it on the front.
        searches: resamples behind ``membership``.
    """

    level: float
    rounds: int
    intra_d: tuple[Interval, ...]
    coverage: tuple[Interval, ...]
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
    hits: npt.ArrayLike | None = None,
    on_progress: ReportProgress | None = None,
) -> FrontConfidence:
    """Resample the real points with replacement, balls kept as they are.

    Coverage follows exactly from the masks. Density needs, for every member and real point, how
    many of the member's images fall into that point's ball (``hits``); without it each covered
    point is taken to hold an equal share of them, which makes the interval an approximation
    (somewhat too narrow where a few points hold most images). Inter-d does not depend on the
    real points: its spread comes from the images drawn, see :func:`rescore` on scores of fresh
    samples.

    Args:
        front: the front.
        scores: the pool it is of.
        rounds: resamples for the intervals.
        searches: resamples that are searched again (0.1–0.5 s each) to see which members
            stay on the front.
        level: probability of the intervals.
        seed: seed of the resampling.
        hits: int [M, N] counts, optional.
        on_progress: called with (done, total) after every search.

    Raises:
        InputError: a front of another pool, or numbers out of range.
    """
    check_pool(front, scores)
    form = inter_form(front)
    if rounds < 1 or searches < 0 or not 0 < level < 1:
        raise InputError(
            f"bootstrap of {rounds} rounds, {searches} searches, level {level}: "
            "use rounds ≥ 1, searches ≥ 0 and 0 < level < 1"
        )
    random = np.random.default_rng(seed)
    evaluator = Evaluator(scores)
    shares = _point_shares(scores, hits)
    n = scores.n_real
    subsets = evaluator.subsets([evaluator.indices(point.members) for point in front])
    covered = np.unpackbits(scores.masks, axis=1)[:, :n].astype(bool)
    unions = np.array([covered[row].any(axis=0) for row in subsets], np.float64)  # [P, N]
    weights = subsets * scores.counts
    held = weights @ shares / weights.sum(axis=1, keepdims=True)  # [P, N], sums to density
    coverage, intra = np.empty((rounds, len(front))), np.empty((rounds, len(front)))
    for number in range(rounds):
        times = np.bincount(random.integers(0, n, n), minlength=n)
        coverage[number] = unions @ times / n
        intra[number] = harmonic_mean(held @ times, coverage[number])
    membership: Counter[str] = Counter()
    for number in range(searches):
        pool = _resampled(scores, covered, shares, random)
        again = search(pool, trials=_SEARCH_TRIALS, seed=number, inter=form)
        membership.update({name for point in again for name in point.members})
        if on_progress is not None:
            on_progress(number + 1, searches)
    return FrontConfidence(
        level,
        rounds,
        _intervals(intra, level),
        _intervals(coverage, level),
        {name: membership[name] / searches for name in scores.names} if searches else {},
        searches,
    )


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
                names, intra, inter, density, coverage, None if weights is None else tuple(weights)
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


def _point_shares(scores: PoolScores, hits: npt.ArrayLike | None) -> Float64Array:
    """Each real point's part of each member's density, [M, N], rows sum to the density."""
    n = scores.n_real
    if hits is None:
        parts = np.unpackbits(scores.masks, axis=1)[:, :n].astype(np.float64)
    else:
        parts = np.asarray(hits, np.float64)
        if parts.shape != (len(scores), n) or not (parts >= 0).all():
            raise InputError(f"hits must be counts [{len(scores)},{n}], not {list(parts.shape)}")
    total = parts.sum(axis=1, keepdims=True)
    shares: Float64Array = scores.density[:, None] * parts / np.where(total > 0, total, 1.0)
    return shares


def _resampled(
    scores: PoolScores,
    covered: npt.NDArray[np.bool_],
    shares: Float64Array,
    random: np.random.Generator,
) -> PoolScores:
    chosen = random.integers(0, scores.n_real, scores.n_real)
    drawn = covered[:, chosen]
    return replace(
        scores,
        density=shares[:, chosen].sum(axis=1),
        coverage=drawn.mean(axis=1),
        masks=np.packbits(drawn, axis=1),
    )


def _intervals(draws: Float64Array, level: float) -> tuple[Interval, ...]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return tuple(Interval(float(a), float(b)) for a, b in zip(low, high, strict=True))
