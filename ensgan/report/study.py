"""A study: evaluations of one pool seen through several extractors, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensgan.downstream import (
    DownstreamTable,
    RankCorrelation,
    StrategyRow,
    rank_correlation,
    summarise,
)
from ensgan.evaluation.evaluate import Evaluation
from ensgan.evaluation.finished_sweep import FinishedSweep
from ensgan.search import Evaluator, find_form
from ensgan.types import DEFAULT_FORM

METRICS = ("auc", "g_mean")
"""Test metrics that a study ranks by, the first one in the figures."""
SCORES = ("intra_d", "inter_d")
_REPEATS = 10_000
"""More than a study has: repeats of different sweeps keep apart."""


@dataclass(frozen=True)
class EvaluatedEnsemble:
    """One training set with its scores and what it taught.

    Attributes:
        name: of the strategy (of the draw, for random ones).
        intra_d: of the ensemble.
        inter_d: of the ensemble; None for a single member.
        means: test metrics over the repeats.
        error: standard error of the first metric's mean, 0 with one repeat.
    """

    name: str
    intra_d: float
    inter_d: float | None
    means: Mapping[str, float]
    error: float


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
        """Label of a part: sweep and extractor."""
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
                metric: {score: asdict(each) for score, each in by_score.items()}
                for metric, by_score in self.correlations.items()
            },
        }


def study_part(evaluation: Evaluation) -> StudyPart:
    """Set the evaluated ensembles against their scores."""
    ensembles = _ensembles(evaluation)
    correlations = {
        metric: {score: _correlation(ensembles, score, metric) for score in SCORES}
        for metric in METRICS
    }
    return StudyPart(evaluation, ensembles, correlations)


def together(parts: Sequence[StudyPart]) -> dict[str, DownstreamTable]:
    """Several sweeps of one data set as one table each, by data set and extractor.

    Strategies are tested over the repeats of all pools, each paired within its pool: what that
    says, it says of these pools. Sweeps whose files name other data, a size or options of their own
    are apart. Empty where there is one sweep alone.
    """
    found: dict[tuple[str, str], dict[Path, StudyPart]] = {}
    for part in parts:
        sweep = part.evaluation.sweep
        same = found.setdefault((sweep.spec.dataset.model_dump_json(), part.extractor), {})
        same[sweep.folder.path] = part
    result: dict[str, DownstreamTable] = {}
    for (_, extractor), pools in found.items():
        if len(pools) > 1:
            data = next(iter(pools.values())).evaluation.sweep.dataset.name
            title = f"{len(pools)} sweeps of {data}, extractor {extractor}"
            if title in result:
                title += f" ({', '.join(path.name for path in pools)})"
            result[title] = _pooled([part.evaluation.table for part in pools.values()])
    return result


def _pooled(tables: Sequence[DownstreamTable]) -> DownstreamTable:
    """The repeats of all tables as those of one."""
    return summarise(
        [
            replace(run, repeat=run.repeat + number * _REPEATS)
            for number, table in enumerate(tables)
            for run in table.results
        ],
        possible_auc=max(t.possible_auc or 0.0 for t in tables) or None,
    )


def _correlation(
    ensembles: Sequence[EvaluatedEnsemble], score: str, metric: str
) -> RankCorrelation:
    known = [each for each in ensembles if getattr(each, score) is not None]
    return rank_correlation(
        [getattr(each, score) for each in known], [each.means[metric] for each in known]
    )


def objectives(
    sweep: FinishedSweep, members: Sequence[str], form: str | None = None
) -> tuple[float, float | None]:
    """Intra-d and Inter-d of members; a single one has no Inter-d.

    Args:
        form: of the objectives, by default the front's. Objectives of a form that needs the
            features are shown as the paper's.
    """
    form = form or sweep.front.form
    form = DEFAULT_FORM if find_form(form).needs_features else form
    evaluator = Evaluator(sweep.scores, inter=sweep.spec.search.inter, objectives=form)
    values = evaluator(evaluator.subsets([evaluator.indices(members)]))
    return float(values.first[0]), None if len(members) == 1 else float(values.second[0])


def _ensembles(evaluation: Evaluation) -> tuple[EvaluatedEnsemble, ...]:
    ensembles: dict[frozenset[str], EvaluatedEnsemble] = {}
    for strategy in evaluation.strategies:
        plain = strategy.kind == "synthetic" and strategy.weights is None
        if not plain or strategy.n_times != evaluation.options.n_times:
            continue
        runs = [run for run in evaluation.table.results if run.strategy.name == strategy.name]
        values = {metric: np.array([run.metrics[metric] for run in runs]) for metric in METRICS}
        spread = values[METRICS[0]].std(ddof=1) if len(runs) > 1 else 0.0
        means = {metric: float(column.mean()) for metric, column in values.items()}
        scores = objectives(evaluation.sweep, strategy.members)
        ensemble = EvaluatedEnsemble(
            strategy.name, *scores, means, float(spread / np.sqrt(len(runs)))
        )
        ensembles.setdefault(frozenset(strategy.members), ensemble)
    return tuple(ensembles.values())
