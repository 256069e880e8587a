"""How sure is a front? Random parts of what was drawn; the same ensembles under other scores."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ensgan.errors import InputError
from ensgan.search.entry import search
from ensgan.search.ledger import ReportProgress
from ensgan.search.masks import BoolArray
from ensgan.search.pool import check_pool
from ensgan.search.rescoring import evaluator_of, inter_of
from ensgan.search.tables import Values
from ensgan.types import Float64Array, Front, PoolScores, Resamples

_SEARCH_TRIALS = 30_000


@dataclass(frozen=True)
class Interval:
    """An interval of an objective."""

    low: float
    high: float


_Intervals: TypeAlias = tuple[
    tuple[Interval, ...], tuple[Interval, ...], tuple[Interval, ...] | None
]


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
    hits: npt.ArrayLike | None = None,
    costs: Mapping[str, float] | None = None,
    on_progress: ReportProgress | None = None,
) -> FrontConfidence:
    """Intervals of the objectives of every front point.

    Scores that hold ``resamples`` (``ensgan score --resamples 200``) give intervals of both
    objectives over fresh real points and fresh images: the spread over their rounds, each a random
    three quarters of everything, scaled up to the whole (:attr:`Resamples.inflation`) and centred
    on the front's own values.

    Other scores allow to draw the real points alone, with replacement: Intra-d's interval is too
    narrow then, and Inter-d has none. Coverage follows exactly from the masks. Density needs, for
    every member and real point, how many of the member's images fall into that point's ball
    (``hits``); without it each covered point is taken to hold an equal share of them.

    Args:
        front: the front.
        scores: the pool it is of.
        rounds: resamples for the intervals; at most those that the scores hold, if they hold any.
        searches: resamples that are searched again (0.1–0.5 s each) to see which members
            stay on the front.
        level: probability of the intervals.
        seed: seed of the resampling; the rounds that scores hold are what they are.
        hits: int [M, N] counts, for scores without resamples.
        costs: every member's cost, for searches of a front whose third objective sums costs.
        on_progress: called with (done, total) after every search.

    Raises:
        InputError: a front of another pool, numbers out of range, or costs that are missing.
    """
    check_pool(front, scores)
    if rounds < 1 or searches < 0 or not 0 < level < 1:
        raise InputError(
            f"bootstrap of {rounds} rounds, {searches} searches, level {level}: "
            "use rounds ≥ 1, searches ≥ 0 and 0 < level < 1"
        )
    evaluator_of(front, scores)  # refuses fronts of other objectives
    source = _source(scores, hits, seed)
    rounds, searches = min(rounds, source.most), min(searches, source.most)
    intervals = source.intervals(front, rounds, level)
    membership = _membership(front, source, searches, costs, on_progress)
    return FrontConfidence(level, rounds, source.covers, *intervals, membership, searches)


def _source(scores: PoolScores, hits: npt.ArrayLike | None, seed: int) -> _Rounds:
    if scores.resamples is None:
        return _PointDraws(scores, hits, seed)
    if hits is not None:
        raise InputError("hits go with scores without resamples: leave them out")
    return _KeptParts(scores, scores.resamples)


class _Rounds(Protocol):
    """Where resamples come from."""

    covers: tuple[str, ...]
    most: int

    def intervals(self, front: Front, rounds: int, level: float) -> _Intervals:
        """Of the first objective, coverage and the second objective."""

    def pool(self, number: int) -> PoolScores:
        """The scores of one resample, to be searched."""


class _PointDraws:
    """Draws the real points with replacement, balls and images kept as they are."""

    covers: tuple[str, ...] = ("real points",)
    most = sys.maxsize

    def __init__(self, scores: PoolScores, hits: npt.ArrayLike | None, seed: int) -> None:
        self._scores = scores
        self._random = np.random.default_rng(seed)
        self._covered: BoolArray = np.unpackbits(scores.masks, axis=1, count=scores.n_real).astype(
            np.bool_
        )
        self._shares = _point_shares(scores, self._covered, hits)

    def intervals(self, front: Front, rounds: int, level: float) -> _Intervals:
        """Percentiles over the draws; the second objective does not depend on real points."""
        found = [_values(front, self.pool(number)) for number in range(rounds)]
        first, coverage = (np.array([getattr(v, n) for v in found]) for n in ("first", "coverage"))
        return _percentiles(first, level), _percentiles(coverage, level), None

    def pool(self, number: int) -> PoolScores:
        """The scores over a fresh draw of the real points."""
        n = self._scores.n_real
        chosen = self._random.integers(0, n, n)
        drawn = self._covered[:, chosen]
        return replace(
            self._scores,
            density=self._shares[:, chosen].sum(axis=1),
            coverage=drawn.mean(axis=1),
            masks=np.packbits(drawn, axis=1),
        )


class _KeptParts:
    """Takes the rounds that the scores hold: parts of the real points and of all images."""

    covers: tuple[str, ...] = ("real points", "images")

    def __init__(self, scores: PoolScores, resamples: Resamples) -> None:
        self._scores, self._inflation = scores, resamples.inflation
        self.most = len(resamples)

    def intervals(self, front: Front, rounds: int, level: float) -> _Intervals:
        """Percentiles of the deviations over the rounds, scaled up to the whole sets.

        Fewer images reach fewer points, so the deviations are taken from the rounds' own mean.
        """
        found = [_values(front, self.pool(number)) for number in range(rounds)]
        whole = _values(front, self._scores)
        first, coverage, second = (
            self._around(getattr(whole, name), np.array([getattr(v, name) for v in found]), level)
            for name in ("first", "coverage", "second")
        )
        return first, tuple(Interval(i.low, min(1.0, i.high)) for i in coverage), second

    def _around(
        self, centre: Float64Array, draws: Float64Array, level: float
    ) -> tuple[Interval, ...]:
        deviation = self._inflation * (draws - draws.mean(axis=0))
        # No density, coverage or overlap is below 0.
        return _percentiles(np.maximum(0.0, centre + deviation), level)

    def pool(self, number: int) -> PoolScores:
        """The scores of a round."""
        return self._scores.resample(number)


def _values(front: Front, scores: PoolScores) -> Values:
    """The front's ensembles under other scores."""
    evaluator = evaluator_of(front, scores)
    return evaluator(evaluator.subsets(evaluator.indices(point.members) for point in front))


def _membership(
    front: Front,
    source: _Rounds,
    searches: int,
    costs: Mapping[str, float] | None,
    on_progress: ReportProgress | None,
) -> dict[str, float]:
    """Search resamples again: the share of them with each member on the front."""
    seen: Counter[str] = Counter()
    names: tuple[str, ...] = ()
    for number in range(searches):
        pool = source.pool(number)
        names = pool.names
        again = search(
            pool,
            trials=_SEARCH_TRIALS,
            seed=number,
            inter=inter_of(front),
            objectives=front.form,
            third=front.third,
            costs=None if front.third == "members" else costs,
        )
        seen.update({name for point in again for name in point.members})
        if on_progress is not None:
            on_progress(number + 1, searches)
    return {name: seen[name] / searches for name in names}


def _point_shares(
    scores: PoolScores, covered: BoolArray, hits: npt.ArrayLike | None
) -> Float64Array:
    """Each real point's part of each member's density, [M, N], rows sum to the density."""
    parts = covered.astype(np.float64)
    if hits is not None:
        parts = np.asarray(hits, np.float64)
        if parts.shape != covered.shape or not (parts >= 0).all():
            raise InputError(f"hits must be counts {list(covered.shape)}, not {list(parts.shape)}")
    total = parts.sum(axis=1, keepdims=True)
    shares: Float64Array = scores.density[:, None] * parts / np.where(total > 0, total, 1.0)
    return shares


def _percentiles(draws: Float64Array, level: float) -> tuple[Interval, ...]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return tuple(Interval(float(a), float(b)) for a, b in zip(low, high, strict=True))
