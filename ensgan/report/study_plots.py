"""The figures of a study."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ensgan.downstream import RankCorrelation
from ensgan.evaluation.finished_sweep import FinishedSweep
from ensgan.report.figures import draw_front, png
from ensgan.report.study import METRICS, StudyPart, objectives
from ensgan.types import Front

WORDS = {"auc": "AUC", "g_mean": "g-mean"}
_MARKERS = "os^vDPX<>*hp"
_RESOLUTION = 130


def front_figure(part: StudyPart) -> bytes:
    """The Pareto front with the evaluated strategies on it, as a PNG file's content.

    A single member has no Inter-d: it is a dashed line at its Intra-d. Of a front of other
    objectives the same ensembles are shown by their Intra-d and Inter-d.
    """
    from matplotlib.figure import Figure

    evaluation = part.evaluation
    sweep = evaluation.sweep
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    draw_front(axes, comparable_front(sweep))
    drawn: dict[str, Any] = {}
    for strategy in evaluation.strategies:
        if not strategy.members or strategy.kind != "synthetic" or strategy.weights is not None:
            continue
        # Draws of one strategy, and points of one front, share a mark.
        group = strategy.group.partition("/")[0]
        index = list(drawn).index(group) if group in drawn else len(drawn)
        intra, inter = objectives(
            sweep.scores, strategy.members, sweep.spec.search.inter, sweep.front.form
        )
        color = f"C{index % 10}"
        label = None if group in drawn else group
        if inter is None:
            axes.axhline(intra, ls="--", lw=1, color=color, label=f"{group} (no Inter-d)")
        else:
            size = 190 if group == "selected" else 45
            marker = "*" if group == "selected" else _MARKERS[index % len(_MARKERS)]
            axes.scatter(inter, intra, s=size, marker=marker, color=color, label=label, zorder=2)
        drawn[group] = None
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
        intra, inter = objectives(sweep.scores, point.members, sweep.spec.search.inter)
        if inter is not None:
            points.append(replace(point, first=intra, second=inter))
    keys = ("intra_d:max", f"inter_d:min:{sweep.spec.search.inter}")
    return replace(sweep.front, objectives=keys, points=tuple(points))


def usefulness_figure(part: StudyPart) -> bytes:
    """Downstream score against Intra-d and Inter-d of every evaluated ensemble, as PNG."""
    from matplotlib.figure import Figure

    metric = METRICS[0]
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    for axes, score, label in zip(
        figure.subplots(1, 2, sharey=True),
        ("intra_d", "inter_d"),
        [axis.label for axis in comparable_front(part.evaluation.sweep).axes],
        strict=True,
    ):
        shown = [e for e in part.ensembles if getattr(e, score) is not None]
        axes.errorbar(
            [getattr(e, score) for e in shown],
            [e.means[metric] for e in shown],
            [e.errors[metric] for e in shown],
            fmt="o",
            ms=5,
            lw=1,
        )
        for e in shown:
            place = (getattr(e, score), e.means[metric])
            axes.annotate(e.name, place, fontsize=6, xytext=(3, 3), textcoords="offset points")
        axes.set(xlabel=label, title=correlation_words(part.correlations[metric][score]))
        for row in part.evaluation.table:
            if row.strategy == "real":
                axes.axhline(row.metrics[metric].mean, ls=":", color="k", label="real")
                axes.legend()
        axes.grid(alpha=0.3)
        axes.margins(x=0.15)  # room for the names
    figure.axes[0].set_ylabel(f"{WORDS[metric]} on the real test split (mean, standard error)")
    figure.suptitle(part.title)
    return png(figure, _RESOLUTION)


def correlation_words(found: RankCorrelation) -> str:
    """``Spearman's ρ 0.41 [0.02, 0.71], 19 ensembles``."""
    if found.rho is None or found.low is None or found.high is None:
        return f"no rank correlation: {found.pairs} ensembles without spread or too few"
    return (
        f"Spearman's ρ {found.rho:.2f} [{found.low:.2f}, {found.high:.2f}], {found.pairs} ensembles"
    )
