"""Which scores predict the worth of an ensemble: many ensembles are trained on and tested."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensgan.downstream import (
    Candidate,
    CappedIntraD,
    LinearProbe,
    RankCorrelation,
    RepeatResult,
    Strategy,
    ValidationTrial,
    make_shortlist,
    merits,
    rank_correlation,
)
from ensgan.search import Evaluator
from ensgan.search.tables import ObjectiveTables
from ensgan.types import PoolScores

REPEATS = 2
"""Classifiers per ensemble: two show how well rankings can agree at all."""
LEAST = 8
"""Ensembles below which a rank correlation says nothing."""
VALIDATION = ("validation AUC", "-validation loss")
_NAMELESS_SIZES = 6


@dataclass(frozen=True)
class Prediction:
    """How well scores rank ensembles by what classifiers learn from them.

    Attributes:
        ensembles: their members, two or more each.
        scores: by the name of a score, its value for each ensemble; larger is meant to be better.
        auc: test AUC of each ensemble and repeat.
        validation: validation AUC and loss (negative) of each ensemble's first repeat.
    """

    ensembles: tuple[tuple[str, ...], ...]
    scores: Mapping[str, tuple[float, ...]]
    auc: tuple[tuple[float, ...], ...]
    validation: Mapping[str, tuple[float, ...]]

    def correlations(self) -> dict[str, RankCorrelation]:
        """Of each score with the mean test AUC, the best first; intervals over the ensembles.

        Validation figures are of the first repeat and are compared with the other repeats, because
        figures of one training share its luck.
        """
        worth = [float(np.mean(row)) for row in self.auc]
        others = [float(np.mean(row[1:])) for row in self.auc]
        results = {name: rank_correlation(row, worth) for name, row in self.scores.items()}
        results |= {name: rank_correlation(row, others) for name, row in self.validation.items()}
        return dict(sorted(results.items(), key=lambda item: -(item[1].rho or 0.0)))

    def ceiling(self) -> RankCorrelation:
        """Of two repeats with each other: no score can visibly rank much better than that."""
        return rank_correlation([row[0] for row in self.auc], [row[1] for row in self.auc])

    @property
    def verdict(self) -> str:
        """The conclusion, in a sentence."""
        agree = self.ceiling()
        if agree.low is None or agree.low <= 0:
            reached = "–" if agree.rho is None else f"{agree.rho:.2f}"
            return (
                f"undecided: two repeats of the same ensembles agree no better than chance (ρ "
                f"{reached}); train longer, or on more ensembles"
            )
        groups: dict[str, list[str]] = {"right": [], "wrong": [], "chance": []}
        for name, rank in self.correlations().items():
            if rank.rho is not None and rank.low is not None and rank.high is not None:
                group = "right" if rank.low > 0 else "wrong" if rank.high < 0 else "chance"
                groups[group].append(f"{name} {rank.rho:.2f}")
        return (
            f"{len(self.ensembles)} ensembles; two repeats agree at ρ {agree.rho:.2f}, so nothing "
            f"can be seen to rank much better; rank the right way: {_listed(groups['right'])}; the "
            f"wrong way: {_listed(groups['wrong'])}; no better than chance: "
            f"{_listed(groups['chance'])}"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON-able values."""
        return {
            **asdict(self),
            "correlations": {name: asdict(each) for name, each in self.correlations().items()},
            "ceiling": asdict(self.ceiling()),
            "verdict": self.verdict,
        }


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def many_ensembles(
    scores: PoolScores, front: Sequence[Sequence[str]], n: int, seed: int
) -> tuple[Strategy, ...]:
    """Ensembles of many kinds and sizes, two members or more each.

    Up to half are drawn from what rules propose (points of the front, best singles together, each
    GAN's snapshots, see :func:`ensgan.downstream.make_shortlist`), the last snapshots and the
    whole pool among them; the others are random, of sizes from 2 to all but one.

    Returns:
        ``n`` of them, fewer where the pool has no more.

    Raises:
        InputError: fewer than two members in the pool.
    """
    pool, rng = scores.names, np.random.default_rng([seed, n])
    proposed = make_shortlist(
        scores, {"front": front}, seed=seed, most=len(front) + 1000, most_members=len(pool)
    )
    order = [proposed[place] for place in rng.permutation(len(proposed))]
    order.sort(key=lambda candidate: {"last", "all"}.isdisjoint(candidate.sources))
    sources = {each.members: " | ".join(each.sources) for each in order[: math.ceil(n / 2)]}
    sizes = np.unique(np.geomspace(2, max(2, len(pool) - 1), _NAMELESS_SIZES).round().astype(int))
    for turn in itertools.islice(itertools.cycle(sizes.tolist()), 20 * n):
        if len(sources) == n:
            break
        rows = np.sort(rng.choice(len(pool), turn, replace=False))
        sources.setdefault(tuple(pool[row] for row in rows), f"random {turn}")
    names = (f"predict:{source}#{number}" for number, source in enumerate(sources.values()))
    return tuple(Strategy(name, members) for name, members in zip(names, sources, strict=True))


def score_values(
    scores: PoolScores,
    ensembles: Sequence[Sequence[str]],
    others: Mapping[str, ObjectiveTables] | None = None,
) -> dict[str, tuple[float, ...]]:
    """Every score of every ensemble, by name; larger is meant to be better.

    Args:
        scores: of the pool.
        ensembles: members of each, two or more.
        others: tables of further forms, by the name of their first objective.
    """
    paper, capped = (Evaluator(scores, objectives=form) for form in ("paper", "capped"))
    subsets = paper.subsets([paper.indices(members) for members in ensembles])
    values = paper(subsets)
    sizes = subsets.sum(axis=1)
    values_of = {
        "capped Intra-d": capped(subsets).first,
        "Intra-d": values.first,
        "-Inter-d": -values.second,
        "Intra-d - Inter-d": values.first - values.second,
        "density": subsets @ scores.density / sizes,
        "coverage": values.coverage,
        "mean coverage of members": subsets @ scores.coverage / sizes,
        "members": sizes,
    }
    for name, tables in (others or {}).items():
        other = Evaluator(tables)(subsets)
        values_of[name] = other.first
    return {name: tuple(float(value) for value in row) for name, row in values_of.items()}


def probe_values(
    scores: PoolScores,
    ensembles: Sequence[Sequence[str]],
    probe: LinearProbe,
    on_probe: Callable[[int, int], None],
) -> dict[str, tuple[float, ...]]:
    """What one linear probe says of every ensemble, alone and as the rule ``validated`` takes it.

    Args:
        scores: of the pool.
        ensembles: members of each.
        probe: of the same pool.
        on_probe: told how many of how many ensembles are probed.
    """
    trials = [ValidationTrial(Strategy("probe", tuple(each)), 0) for each in ensembles]
    done = itertools.count(1)
    results = probe(trials, lambda: on_probe(next(done), len(trials)))
    intra_d = CappedIntraD(scores)
    listed = [Candidate(t.strategy.members, intra_d(t.strategy.members), ()) for t in trials]
    return {
        "probe AUC": tuple(each.auc for each in results),
        "-probe loss": tuple(-each.loss for each in results),
        "probe and capped Intra-d": merits(listed, results),
    }


def prediction(
    scores: PoolScores,
    strategies: Sequence[Strategy],
    results: Sequence[RepeatResult],
    others: Mapping[str, ObjectiveTables] | None = None,
    probe: LinearProbe | None = None,
    on_probe: Callable[[int, int], None] = lambda done, of: None,
) -> Prediction:
    """Set trained ensembles against their scores.

    Args:
        scores, others: see :func:`score_values`.
        strategies: the ensembles.
        results: of every repeat of every one, at least two each.
        probe, on_probe: see :func:`probe_values`; None where nothing can be validated.
    """
    runs: dict[str, list[RepeatResult]] = {strategy.name: [] for strategy in strategies}
    for result in sorted(results, key=lambda result: result.repeat):
        runs[result.strategy.name].append(result)
    members = tuple(strategy.members for strategy in strategies)
    first = [rows[0] for rows in runs.values()]
    figures = (
        tuple(run.val_metrics["auc"] for run in first),
        tuple(-run.val_loss for run in first),
    )
    return Prediction(
        members,
        score_values(scores, members, others)
        | ({} if probe is None else probe_values(scores, members, probe, on_probe)),
        tuple(tuple(run.metrics["auc"] for run in rows) for rows in runs.values()),
        dict(zip(VALIDATION, figures, strict=True)),
    )
