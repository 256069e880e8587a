"""A study: evaluations of one pool seen through several extractors, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensgan.downstream import RankCorrelation, StrategyRow, rank_correlation
from ensgan.evaluation.evaluate import Evaluation
from ensgan.search import Evaluator, find_form
from ensgan.types import DEFAULT_FORM, PoolScores

METRICS = ("auc", "g_mean")
"""Test metrics that a study ranks by, the first one in the figures."""


@dataclass(frozen=True)
class EvaluatedEnsemble:
    """One training set with its scores and what it taught.

    Attributes:
        name: of the strategy (of the draw, for random ones).
        size: number of members.
        intra_d: of the ensemble.
        inter_d: of the ensemble; None for a single member.
        means, errors: test metrics over the repeats, and the standard errors of these means
            (0 with one repeat).
    """

    name: str
    size: int
    intra_d: float
    inter_d: float | None
    means: Mapping[str, float]
    errors: Mapping[str, float]


@dataclass(frozen=True)
class StudyPart:
    """The pool under one extractor.

    Attributes:
        evaluation: the table and the sweep as that extractor sees it.
        ensembles: every different synthetic training set with equal member weights.
        correlations: by metric, then by ``intra_d``/``inter_d``.
    """

    evaluation: Evaluation
    ensembles: tuple[EvaluatedEnsemble, ...]
    correlations: Mapping[str, Mapping[str, RankCorrelation]]

    @property
    def extractor(self) -> str:
        """Name of the extractor."""
        return self.evaluation.sweep.spec.embed.extractor

    @property
    def title(self) -> str:
        """Sweep and extractor, to be told apart by."""
        return f"{self.evaluation.sweep.spec.name}, extractor {self.extractor}"

    def order(self, metric: str) -> list[StrategyRow]:
        """Strategies by the mean of a test metric, the best first."""
        return sorted(self.evaluation.table.rows, key=lambda row: -row.metrics[metric].mean)

    def to_json(self) -> dict[str, Any]:
        """The part as JSON-able values, without the single runs."""
        value = {k: v for k, v in self.evaluation.to_json().items() if k != "runs"}
        return {
            **value,
            "order": {m: [row.strategy for row in self.order(m)] for m in METRICS},
            "correlations": {
                metric: {score: found.to_json() for score, found in by_score.items()}
                for metric, by_score in self.correlations.items()
            },
        }


def study_part(evaluation: Evaluation) -> StudyPart:
    """Set the evaluated ensembles against their scores."""
    ensembles = _ensembles(evaluation)
    pairs = [ensemble for ensemble in ensembles if ensemble.inter_d is not None]
    correlations = {
        metric: {
            "intra_d": rank_correlation(
                [e.intra_d for e in ensembles], [e.means[metric] for e in ensembles]
            ),
            "inter_d": rank_correlation(
                [e.inter_d for e in pairs if e.inter_d is not None],
                [e.means[metric] for e in pairs],
            ),
        }
        for metric in METRICS
    }
    return StudyPart(evaluation, ensembles, correlations)


def objectives(
    scores: PoolScores, members: Sequence[str], inter: str = "symmetric", form: str = DEFAULT_FORM
) -> tuple[float, float | None]:
    """Intra-d and Inter-d of members; a single one has no Inter-d.

    Objectives of a form that needs the features are shown as the paper's.
    """
    form = "paper" if find_form(form).needs_features else form
    evaluator = Evaluator(scores, inter=inter, objectives=form)
    values = evaluator(evaluator.subsets([evaluator.indices(members)]))
    return float(values.first[0]), None if len(members) == 1 else float(values.second[0])


def _ensembles(evaluation: Evaluation) -> tuple[EvaluatedEnsemble, ...]:
    sweep = evaluation.sweep
    found: dict[frozenset[str], EvaluatedEnsemble] = {}
    for strategy in evaluation.strategies:
        plain = strategy.kind == "synthetic" and strategy.weights is None
        if not plain or strategy.n_times != evaluation.options.n_times:
            continue
        runs = [run for run in evaluation.table.results if run.strategy.name == strategy.name]
        values = {metric: np.array([run.metrics[metric] for run in runs]) for metric in METRICS}
        intra, inter = objectives(
            sweep.scores, strategy.members, sweep.spec.search.inter, sweep.front.form
        )
        found.setdefault(
            frozenset(strategy.members),
            EvaluatedEnsemble(
                strategy.name,
                len(strategy.members),
                intra,
                inter,
                {metric: float(v.mean()) for metric, v in values.items()},
                {
                    metric: float(v.std(ddof=1) / np.sqrt(len(v))) if len(v) > 1 else 0.0
                    for metric, v in values.items()
                },
            ),
        )
    return tuple(found.values())
