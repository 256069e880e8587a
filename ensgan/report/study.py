"""A study as a Markdown page with figures: evaluations of pools, seen through some extractors."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ensgan.downstream import DownstreamTable, RankCorrelation, Spread, StrategyRow, summarise
from ensgan.evaluation.evaluate import Evaluation
from ensgan.evaluation.finished_sweep import FinishedSweep
from ensgan.report.figures import draw_front, new_figure, png
from ensgan.report.page import templates
from ensgan.search import Evaluator, find_form
from ensgan.sweep.environment import commit, machine
from ensgan.text import markdown
from ensgan.types import DEFAULT_FORM, Front

WORDS = {"auc": "AUC", "g_mean": "g-mean"}
"""Test metrics that a study ranks by, and what they are called."""
_REPEATS = 10_000
"""More than a study has, to keep the repeats of different sweeps apart."""
_MARKERS = "os^vDPX<>*hp"
_RESOLUTION = 130
_OVER_TEST_IMAGES = ("95 %, test images", "AUC − G*, test images")


def title_of(part: Evaluation) -> str:
    """Label of a part: sweep and extractor."""
    return f"{part.sweep.spec.name}, extractor {part.sweep.spec.embed.extractor}"


def order_by(part: Evaluation, metric: str) -> list[StrategyRow]:
    """Strategies by the mean of a test metric, the best first."""
    return sorted(part.table.rows, key=lambda row: -row.metrics[metric].mean)


def part_json(part: Evaluation) -> dict[str, Any]:
    """The part as JSON-able values, without the single runs."""
    value = {k: v for k, v in part.to_json().items() if k != "runs"}
    return {**value, "order": {m: [row.strategy for row in order_by(part, m)] for m in WORDS}}


def together(parts: Sequence[Evaluation]) -> dict[str, DownstreamTable]:
    """Several sweeps of one data set as one table each, by data set and extractor.

    Strategies are tested over the repeats of all pools, paired within each pool: conclusions hold
    for these pools only. Sweeps whose files name other data, another size or other options are kept
    apart. Empty for a single sweep.
    """
    groups: dict[tuple[str, str], dict[Path, Evaluation]] = {}
    for part in parts:
        sweep, extractor = part.sweep, part.sweep.spec.embed.extractor
        same = groups.setdefault((sweep.spec.dataset.model_dump_json(), extractor), {})
        same[sweep.folder.path] = part
    result: dict[str, DownstreamTable] = {}
    for (_, extractor), pools in groups.items():
        if len(pools) > 1:
            data = next(iter(pools.values())).sweep.dataset.name
            title = f"{len(pools)} sweeps of {data}, extractor {extractor}"
            if title in result:
                title += f" ({', '.join(path.name for path in pools)})"
            result[title] = _pooled([part.table for part in pools.values()])
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


def study_page(
    title: str,
    parts: Sequence[Evaluation],
    figures: Mapping[str, str],
    *,
    command: str,
    seconds: float,
    notes: str = "",
) -> str:
    """The page, with the commit, time and machine it is written on.

    Args:
        title: its heading.
        parts: one per extractor.
        figures: by the title of a part, the picture file to show, relative to the page.
        command: as it was typed, without paths of the machine.
        seconds: wall time of the command; what was on disk cost nothing.
        notes: Markdown of the author's, put under a heading of its own.
    """
    sweep = parts[0].sweep
    runs = [run.seconds for part in parts for run in part.table.results]
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
            splits={name: len(split) for name, split in sweep.dataset.load().splits().items()},
            gans=len({member.name.partition("@")[0] for member in sweep.members}),
            classifier_seconds=sum(runs) / len(runs),
            training_seconds=sum(member.seconds.get("train", 0.0) for member in sweep.members),
            words=WORDS,
            title_of=title_of,
            order_by=order_by,
            correlation=correlation_words,
            cells_of=_cells,
            together=together(parts),
            together_cells=_downstream_cells,
        )
    )
    return f"{page}\n"


def _cells(row: StrategyRow, part: Evaluation) -> dict[str, str]:
    """One row of the table by its columns."""
    intra = inter = None
    if row.members and row.draws == 1:
        intra, inter = objectives(part.sweep, row.members)
    strategy, *figures = _downstream_cells(row, part.table).items()
    return {
        **dict([strategy]),
        "n": f"{row.draws} draws" if row.draws > 1 else str(len(row.members) or "–"),
        "Intra-d": "–" if intra is None else f"{intra:.3f}",
        "Inter-d": "–" if inter is None else f"{inter:.3f}",
        **dict(figures),
    }


def _downstream_cells(row: StrategyRow, table: DownstreamTable) -> dict[str, str]:
    """What classifiers say of a strategy, by column; without columns that no row can fill."""
    auc, closed = row.metrics["auc"], row.gap_closed["auc"]
    tested, apart = row.test_images, row.test_difference
    classes = [m.mean for name, m in row.metrics.items() if name.startswith("accuracy_class_")]
    cells = {
        "strategy": "**selected** (G*)" if row.strategy == "selected" else markdown(row.strategy),
        "accuracy": _spread(row.metrics["accuracy"]),
        "per class": " / ".join(f"{value:.3f}" for value in classes),
        "g-mean": _spread(row.metrics["g_mean"]),
        "AUC": _spread(auc),
        "95 %": "–" if auc.low is None else f"{auc.low:.3f}–{auc.high:.3f}",
        _OVER_TEST_IMAGES[0]: "–" if tested is None else f"{tested[0]:.3f}–{tested[1]:.3f}",
        "AUC − G*": "–" if auc.difference is None else f"{auc.difference:+.3f}",
        "p": "–" if auc.p is None else f"{auc.p:.2g}",
        _OVER_TEST_IMAGES[1]: "–" if apart is None else f"{apart[0]:+.3f} to {apart[1]:+.3f}",
        "gap closed": "–" if closed is None else f"{closed:.0%}",
    }
    unknown = () if any(each.test_images for each in table) else _OVER_TEST_IMAGES
    return {name: cell for name, cell in cells.items() if name not in unknown}


def _spread(spread: Spread) -> str:
    return f"{spread.mean:.3f}" + ("" if spread.sd is None else f" ± {spread.sd:.3f}")


def front_figure(part: Evaluation) -> bytes:
    """The Pareto front with the evaluated strategies on it, as a PNG file's content.

    A single member has no Inter-d: it is a dashed line at its Intra-d. Of a front of other
    objectives the same ensembles are shown by their Intra-d and Inter-d.
    """
    sweep = part.sweep
    figure, axes = new_figure(8, 5.5)
    draw_front(axes, comparable_front(sweep))
    drawn: list[str] = []
    for strategy in part.strategies:
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
    axes.set(title=title_of(part))
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


def correlation_words(correlation: RankCorrelation) -> str:
    """``Spearman's ρ 0.41 [0.02, 0.71], 19 ensembles``."""
    if correlation.rho is None or correlation.low is None or correlation.high is None:
        return f"no rank correlation: {correlation.pairs} ensembles without spread or too few"
    interval = f"[{correlation.low:.2f}, {correlation.high:.2f}]"
    return f"Spearman's ρ {correlation.rho:.2f} {interval}, {correlation.pairs} ensembles"
