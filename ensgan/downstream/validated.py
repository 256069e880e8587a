"""G* by validation: quick classifiers of a shortlist, and the smallest that is as good.

Scores ignore labels: a generator that swaps them scores like a correct one. Classifiers trained on
its images do suffer, but one quick classifier is a noisy judge.
So candidates are ranked by validation and by capped Intra-d together, and the better ones are
judged by several classifiers each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ensgan.downstream.strategy import Candidate, CappedIntraD, Strategy
from ensgan.errors import InputError
from ensgan.text import counted
from ensgan.types import Float64Array, PoolScores


@dataclass(frozen=True)
class ValidationTrial:
    """One classifier to train: on which images, and from which seed."""

    strategy: Strategy
    seed: int


@dataclass(frozen=True)
class ValidationResult:
    """What a classifier reached on the validation split.

    Attributes:
        auc: area under the curve (of several classes the mean), larger is better.
        loss: class-weighted cross-entropy, smaller is better.
    """

    auc: float
    loss: float


TrainAndValidate: TypeAlias = Callable[[Sequence[ValidationTrial]], Sequence[ValidationResult]]
"""Trains classifiers, wherever there is room, and validates them; the test split has no part."""


@dataclass(frozen=True)
class Ranked:
    """A finalist.

    Attributes:
        merit: mean over classifiers of the share of rivals beaten by validation plus the share of
            the shortlist beaten in capped Intra-d, in [0, 2].
        error: standard error of ``merit`` over the classifiers; 0 with one.
        auc: mean validation AUC.
    """

    candidate: Candidate
    merit: float
    error: float
    auc: float


@dataclass(frozen=True)
class ValidatedChoice:
    """G* with its reason.

    Attributes:
        chosen: G*.
        ranking: the finalists, best merit first; empty without validation.
        reason: which one, why, the runner-up, and how certain that is, in one sentence.
        trained: classifiers that were trained for it.
    """

    chosen: Candidate
    ranking: tuple[Ranked, ...]
    reason: str
    trained: int


def choose_validated(
    shortlist: Sequence[Candidate],
    scores: PoolScores,
    train_and_validate: TrainAndValidate,
    *,
    seed: int,
    seeds: int = 5,
    finalists: int | None = None,
    greedy_steps: int = 2,
    greedy_additions: int = 3,
    most_members: int | None = None,
) -> ValidatedChoice:
    """Let quick classifiers choose G* from a shortlist: one for each, several for the finalists.

    The leader is grown by greedy forward steps (Caruana et al. 2004): each step tries the few
    members that raise its capped Intra-d most and goes on while validation agrees. Every finalist
    whose merit is within one standard error of the best counts as equally good, and of these the
    one with the fewest members is chosen.

    Args:
        shortlist: see :func:`ensgan.downstream.make_shortlist`.
        scores: of the pool that the shortlist is made of.
        train_and_validate: trains and validates a batch of classifiers.
        seed: of the first classifier of each candidate; the others follow it.
        seeds: classifiers of each finalist.
        finalists: how many there are; None: the better third, at least 4.
        greedy_steps: most members added to the leader; 0 for none.
        greedy_additions: members tried in each step.
        most_members: the leader grows no larger; None: half the pool, at least 2.

    Raises:
        InputError: an empty shortlist, or no classifier to judge it.
    """
    kept = max(4, len(shortlist) // 3) if finalists is None else finalists
    if not shortlist or min(seeds, kept) < 1:
        raise InputError("validation chooses from at least one candidate by one classifier")
    race = _Race(shortlist, train_and_validate, seed)
    field = race.best(shortlist)[:kept] if kept < len(shortlist) else list(shortlist)
    largest = max(2, len(scores) // 2) if most_members is None else most_members
    start = leader = race.best(field)[0]
    while len(leader.members) < min(largest, len(start.members) + greedy_steps):
        grown = _grown(leader, CappedIntraD(scores), greedy_additions)
        best = race.best([leader, *grown])[0]
        if best is leader:
            break
        leader = best
    if all(leader.members != candidate.members for candidate in field):
        field.append(leader)
    ranking = race.ranking(field, seeds)
    level = [r for r in ranking if r.merit >= ranking[0].merit - ranking[0].error]
    chosen = min(level, key=lambda ranked: (len(ranked.candidate.members), -ranked.merit))
    reason = _reason(chosen, ranking, len(shortlist), seeds)
    return ValidatedChoice(chosen.candidate, tuple(ranking), reason, race.trained)


def choose_unvalidated(shortlist: Sequence[Candidate], why: str) -> ValidatedChoice:
    """What can be chosen where nothing can be validated: largest capped Intra-d, fewest members.

    Args:
        shortlist: the candidates.
        why: what is missing, e.g. ``the data have one class``.

    Raises:
        InputError: an empty shortlist.
    """
    if not shortlist:
        raise InputError("there is no candidate to choose from")
    best = min(shortlist, key=lambda c: (-round(c.intra_d, 12), len(c.members)))
    reason = (
        f"validated: {why}, so the largest capped Intra-d decides: {best.intra_d:.3f} with "
        f"{counted(len(best.members), 'member')}, of {counted(len(shortlist), 'ensemble')}"
    )
    return ValidatedChoice(best, (), reason, 0)


def merits(
    candidates: Sequence[Candidate], results: Sequence[ValidationResult]
) -> tuple[float, ...]:
    """How candidates rank by one result each and capped Intra-d together, in [0, 2]."""
    intra_d = np.array([candidate.intra_d for candidate in candidates])
    return tuple(_merits([[result] for result in results], intra_d, intra_d)[:, 0].tolist())


def _merits(
    results: Sequence[Sequence[ValidationResult]], intra_d: Float64Array, shortlist: Float64Array
) -> Float64Array:
    """Merit of each candidate by each of its classifiers, [candidates, classifiers] in [0, 2].

    Args:
        results: by candidate and classifier.
        intra_d, shortlist: capped Intra-d of the candidates, and of the whole shortlist.
    """
    auc = np.array([[result.auc for result in row] for row in results])
    loss = np.array([[result.loss for result in row] for row in results])
    # A column per seed: what a seed does to all candidates alike leaves their order as it is.
    validation = (_share_beaten(auc) + _share_beaten(-loss)) / 2
    # Among finalists small differences of Intra-d would weigh as much as large ones: its rank is
    # taken within the whole shortlist, of ties half.
    known = np.sort(shortlist)
    below, upto = (np.searchsorted(known, intra_d, side) for side in ("left", "right"))
    beaten = (below + upto - 1) / 2 / max(1, len(known) - 1)
    # Grown ensembles are none of the shortlist and may lie beyond both its ends.
    return np.asarray(validation + np.clip(beaten, 0.0, 1.0)[:, None])


class _Race:
    """Trains what is asked for once, and compares candidates trained alike."""

    def __init__(self, shortlist: Sequence[Candidate], train: TrainAndValidate, seed: int) -> None:
        self._intra_d = np.array([candidate.intra_d for candidate in shortlist])
        self._train = train
        self._seed = seed
        self._results: dict[ValidationTrial, ValidationResult] = {}

    @property
    def trained(self) -> int:
        """Classifiers trained so far."""
        return len(self._results)

    def ranking(self, candidates: Sequence[Candidate], seeds: int) -> list[Ranked]:
        """Candidates by merit, the best first; of equal merit the smaller one."""
        results = self._measure(candidates, seeds)
        intra_d = np.array([candidate.intra_d for candidate in candidates])
        merit = _merits(results, intra_d, self._intra_d)
        spread = merit.std(axis=1, ddof=1) if seeds > 1 else np.zeros(len(merit))
        error = spread / np.sqrt(seeds)
        auc = np.array([[result.auc for result in row] for row in results]).mean(axis=1)
        figures = zip(merit.mean(axis=1), error, auc, strict=True)
        ranked = [
            Ranked(candidate, *map(float, row))
            for candidate, row in zip(candidates, figures, strict=True)
        ]
        return sorted(ranked, key=lambda r: (-r.merit, len(r.candidate.members)))

    def best(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates alone, by one classifier each."""
        return [ranked.candidate for ranked in self.ranking(candidates, 1)]

    def _measure(self, candidates: Sequence[Candidate], seeds: int) -> list[list[ValidationResult]]:
        """Results of every candidate and seed; what was trained before is not trained again."""
        numbers = range(self._seed, self._seed + seeds)
        strategies = [Strategy("validated", candidate.members) for candidate in candidates]
        rows = [[ValidationTrial(one, seed) for seed in numbers] for one in strategies]
        asked = dict.fromkeys(trial for row in rows for trial in row)
        new = [trial for trial in asked if trial not in self._results]
        if new:
            self._results.update(zip(new, self._train(new), strict=True))
        return [[self._results[trial] for trial in row] for row in rows]


def _share_beaten(values: Float64Array) -> Float64Array:
    """Share of the others that are smaller, ties half, by column; 0.5 where there is no other."""
    # Late: the package must import without scipy.
    from scipy.stats import rankdata

    if len(values) == 1:
        return np.full(values.shape, 0.5)
    share: Float64Array = (rankdata(values, axis=0) - 1) / (len(values) - 1)
    return share


def _grown(leader: Candidate, intra_d: CappedIntraD, most: int) -> list[Candidate]:
    """The leader and one member more, the ``most`` of largest capped Intra-d."""
    names, grown = intra_d.scores.names, []
    for name in names:
        if name not in leader.members:
            members = tuple(names[row] for row in intra_d.indices((*leader.members, name)))
            grown.append(Candidate(members, intra_d(members), (*leader.sources, f"+ {name}")))
    return sorted(grown, key=lambda candidate: -candidate.intra_d)[:most]


def _reason(chosen: Ranked, ranking: Sequence[Ranked], tried: int, seeds: int) -> str:
    """Which one and why, the runner-up, and how certain the order of these two is."""
    words = (
        f"validated: {_named(chosen)}, validation AUC {chosen.auc:.3f} of {seeds} classifiers, "
        f"capped Intra-d {chosen.candidate.intra_d:.3f}; {tried} ensembles tried"
    )
    rivals = [ranked for ranked in ranking if ranked is not chosen]
    if not rivals:
        return f"{words}; it has no rival"
    rival = rivals[0]
    gap = chosen.merit - rival.merit
    error = float(np.hypot(chosen.error, rival.error))
    if gap < 0:
        certainty = "no better by more than one standard error, and larger"
    elif error == 0.0:  # all classifiers agree: there is no spread
        certainty = "behind with every classifier"
    elif gap <= error:
        certainty = "not told apart from the first"
    elif gap <= 2 * error:
        certainty = "behind by one to two standard errors"
    else:
        certainty = "behind by more than two standard errors"
    return (
        f"{words}; runner-up: {_named(rival)}, AUC {rival.auc:.3f}, "
        f"capped Intra-d {rival.candidate.intra_d:.3f}; ranked by both, it is {certainty}"
    )


def _named(ranked: Ranked) -> str:
    candidate = ranked.candidate
    shown = [*candidate.sources[:2], *(s for s in candidate.sources[2:] if s.startswith("+"))]
    return f"{counted(len(candidate.members), 'member')} ({', '.join(shown)})"
