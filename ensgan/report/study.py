"""A study: one pool seen through several extractors, as a Markdown page with its figures.

Everything on the page comes from results.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ensgan.downstream import RankCorrelation, Spread, StrategyRow, rank_correlation
from ensgan.evaluation.evaluate import Evaluation
from ensgan.evaluation.finished_sweep import FinishedSweep
from ensgan.report.figures import draw_front, new_figure, png
from ensgan.report.page import templates
from ensgan.search import Evaluator, find_form
from ensgan.sweep.environment import commit, machine
from ensgan.types import DEFAULT_FORM, Front

METRICS = ("auc", "g_mean")
"""Test metrics that a study ranks by, the first one in the figures."""
SCORES = ("intra_d", "inter_d")


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


WORDS = {"auc": "AUC", "g_mean": "g-mean"}
_MARKERS = "os^vDPX<>*hp"
_RESOLUTION = 130


def study_page(
    title: str,
    parts: Sequence[StudyPart],
    figures: Mapping[str, Sequence[str]],
    *,
    command: str,
    seconds: float,
    notes: str = "",
) -> str:
    """The page, with the commit, time and machine it is written on.

    Args:
        title: its heading.
        parts: one per extractor.
        figures: by the title of a part, the picture files to show, relative to the page.
        command: as it was typed, without paths of the machine.
        seconds: wall time of the command; what was on disk cost nothing.
        notes: Markdown of the author's, put under a heading of its own.
    """
    evaluation = parts[0].evaluation
    sweep = evaluation.sweep
    runs = [run.seconds for part in parts for run in part.evaluation.table.results]
    page = (
        templates()
        .get_template("study.md")
        .render(
            title=title,
            parts=parts,
            figures=figures,
            command=command,
            seconds=seconds,
            commit=commit(),
            date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            machine=machine(),
            notes=notes,
            sweep=sweep,
            spec=sweep.spec,
            evaluation=evaluation,
            options=evaluation.options,
            classifier=evaluation.options.classifier,
            splits={name: len(split) for name, split in sweep.dataset.load().splits().items()},
            gans=len({member.name.partition("@")[0] for member in sweep.members}),
            classifier_seconds=sum(runs) / len(runs),
            training_seconds=sum(member.seconds.get("train", 0.0) for member in sweep.members),
            metrics=METRICS,
            words=WORDS,
            correlation=correlation_words,
            cells_of=_cells,
        )
    )
    return f"{page}\n"


def _cells(row: StrategyRow, part: StudyPart) -> dict[str, str]:
    """One row of the table by its columns."""
    auc, closed = row.metrics["auc"], row.gap_closed["auc"]
    intra = inter = None
    if row.members and row.draws == 1:
        intra, inter = objectives(part.evaluation.sweep, row.members)
    classes = [m.mean for name, m in row.metrics.items() if name.startswith("accuracy_class_")]
    return {
        "strategy": f"**{row.strategy}** (G*)" if row.strategy == "selected" else row.strategy,
        "n": f"{row.draws} draws" if row.draws > 1 else str(len(row.members) or "–"),
        "Intra-d": "–" if intra is None else f"{intra:.3f}",
        "Inter-d": "–" if inter is None else f"{inter:.3f}",
        "accuracy": _spread(row.metrics["accuracy"]),
        "per class": " / ".join(f"{value:.3f}" for value in classes),
        "g-mean": _spread(row.metrics["g_mean"]),
        "AUC": _spread(auc),
        "95 %": "–" if auc.low is None else f"{auc.low:.3f}–{auc.high:.3f}",
        "AUC − G*": "–" if auc.difference is None else f"{auc.difference:+.3f}",
        "p": "–" if auc.p is None else f"{auc.p:.2g}",
        "gap closed": "–" if closed is None else f"{closed:.0%}",
    }


def _spread(spread: Spread) -> str:
    return f"{spread.mean:.3f}" + ("" if spread.sd is None else f" ± {spread.sd:.3f}")


def front_figure(part: StudyPart) -> bytes:
    """The Pareto front with the evaluated strategies on it, as a PNG file's content.

    A single member has no Inter-d: it is a dashed line at its Intra-d. Of a front of other
    objectives the same ensembles are shown by their Intra-d and Inter-d.
    """
    evaluation = part.evaluation
    sweep = evaluation.sweep
    figure, axes = new_figure(8, 5.5)
    draw_front(axes, comparable_front(sweep))
    drawn: list[str] = []
    for strategy in evaluation.strategies:
        if not strategy.members or strategy.kind != "synthetic" or strategy.weights is not None:
            continue
        # Draws of one strategy, and points of one front, share a mark.
        group = strategy.group.partition("/")[0]
        label = None if group in drawn else group
        drawn += [group] if label else []
        index = drawn.index(group)
        intra, inter = objectives(sweep, strategy.members)
        color = f"C{index % 10}"
        if inter is None:
            axes.axhline(intra, ls="--", lw=1, color=color, label=f"{group} (no Inter-d)")
        else:
            size = 190 if group == "selected" else 45
            marker = "*" if group == "selected" else _MARKERS[index % len(_MARKERS)]
            axes.scatter(inter, intra, s=size, marker=marker, color=color, label=label, zorder=2)
    axes.set(title=part.title)
    axes.legend(fontsize=8)
    return png(figure, _RESOLUTION)


def comparable_front(sweep: FinishedSweep) -> Front:
    """The sweep's front by Intra-d and Inter-d, whatever two objectives it was searched by.

    Of other objectives the same ensembles are measured again; singles have no Inter-d and go.
    """
    if [axis.key for axis in sweep.front.axes] == ["intra_d", "inter_d"]:
        return sweep.front
    points = []
    for point in sweep.front:
        intra, inter = objectives(sweep, point.members, DEFAULT_FORM)
        if inter is not None:
            points.append(replace(point, first=intra, second=inter))
    keys = ("intra_d:max", f"inter_d:min:{sweep.spec.search.inter}")
    return replace(sweep.front, objectives=keys, points=tuple(points))


def usefulness_figure(part: StudyPart) -> bytes:
    """Downstream score against Intra-d and Inter-d of every evaluated ensemble, as PNG."""
    metric = METRICS[0]
    figure, both = new_figure(11, 4.8, columns=2, sharey=True)
    front = comparable_front(part.evaluation.sweep)
    for axes, score, axis in zip(both, SCORES, front.axes, strict=True):
        for e in part.ensembles:
            place = (getattr(e, score), e.means[metric])
            if place[0] is not None:
                axes.errorbar(*place, e.error, fmt="o", ms=5, lw=1, color="C0")
                axes.annotate(e.name, place, fontsize=6, xytext=(3, 3), textcoords="offset points")
        axes.set(xlabel=axis.label, title=correlation_words(part.correlations[metric][score]))
        for row in part.evaluation.table:
            if row.strategy == "real":
                axes.axhline(row.metrics[metric].mean, ls=":", color="k", label="real")
                axes.legend()
        axes.grid(alpha=0.3)
        axes.margins(x=0.15)  # room for the names
    figure.axes[0].set_ylabel(f"{WORDS[metric]} on the real test split (mean, standard error)")
    figure.suptitle(part.title)
    return png(figure, _RESOLUTION)


def correlation_words(correlation: RankCorrelation) -> str:
    """``Spearman's ρ 0.41 [0.02, 0.71], 19 ensembles``."""
    if correlation.rho is None or correlation.low is None or correlation.high is None:
        return f"no rank correlation: {correlation.pairs} ensembles without spread or too few"
    interval = f"[{correlation.low:.2f}, {correlation.high:.2f}]"
    return f"Spearman's ρ {correlation.rho:.2f} {interval}, {correlation.pairs} ensembles"
