"""The figures of a study."""

from __future__ import annotations

import io
from typing import Any

from ensgan.downstream import RankCorrelation
from ensgan.evaluation.finished_sweep import FinishedSweep
from ensgan.report.study import METRICS, StudyPart, objectives
from ensgan.types import read_objective

INTRA_LABEL = read_objective("intra_d", maximise=True).label
INTER_LABEL = read_objective("inter_d", maximise=False).label
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
    line, points = front_places(sweep)
    words = f"Pareto front ({len(points)})"
    if line == ".":
        words += f" of {', '.join(axis.name for axis in sweep.front.axes)}"
    axes.plot(*zip(*points, strict=True), line, color="0.6", label=words, zorder=1)
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
    axes.set(xlabel=INTER_LABEL, ylabel=INTRA_LABEL, title=part.title)
    axes.legend(fontsize=8)
    return _png(figure)


def front_places(sweep: FinishedSweep) -> tuple[str, list[tuple[float, float]]]:
    """Line style, and Inter-d and Intra-d of every front point by rising Inter-d.

    A front of exactly these two objectives is a line, any other one a cloud of points.
    """
    first, *others = (axis.key for axis in sweep.front.axes)
    if first == "intra_d":
        places = [(point.second, point.first) for point in sweep.front]
    else:
        found = (objectives(sweep.scores, p.members, sweep.spec.search.inter) for p in sweep.front)
        places = [(inter, intra) for intra, inter in found if inter is not None]
    return ".-" if (first, others) == ("intra_d", ["inter_d"]) else ".", sorted(places)


def usefulness_figure(part: StudyPart) -> bytes:
    """Downstream score against Intra-d and Inter-d of every evaluated ensemble, as PNG."""
    from matplotlib.figure import Figure

    metric = METRICS[0]
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    for axes, score, label in zip(
        figure.subplots(1, 2, sharey=True),
        ("intra_d", "inter_d"),
        (INTRA_LABEL, INTER_LABEL),
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
    return _png(figure)


def correlation_words(found: RankCorrelation) -> str:
    """``Spearman's ρ 0.41 [0.02, 0.71], 19 ensembles``."""
    if found.rho is None or found.low is None or found.high is None:
        return f"no rank correlation: {found.pairs} ensembles without spread or too few"
    return (
        f"Spearman's ρ {found.rho:.2f} [{found.low:.2f}, {found.high:.2f}], {found.pairs} ensembles"
    )


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_RESOLUTION)
    return stream.getvalue()
