"""A study as a Markdown page: everything on it comes from results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ensgan.downstream import Spread, StrategyRow
from ensgan.report.page import templates
from ensgan.report.study import METRICS, StudyPart, objectives
from ensgan.report.study_plots import WORDS, correlation_words
from ensgan.sweep.environment import commit, machine

_COLUMNS = (
    *("strategy", "n", "Intra-d", "Inter-d", "accuracy", "per class", "g-mean", "AUC"),
    *("95 %", "AUC − G*", "p", "gap closed"),
)


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
            options=evaluation.options,
            classifier=evaluation.options.classifier,
            splits={name: len(split) for name, split in sweep.dataset.load().splits().items()},
            gans=len({member.name.partition("@")[0] for member in sweep.members}),
            classifier_seconds=sum(runs) / len(runs),
            training_seconds=sum(member.seconds.get("train", 0.0) for member in sweep.members),
            metrics=METRICS,
            words=WORDS,
            columns=_COLUMNS,
            correlation=correlation_words,
            cells=_cells,
        )
    )
    return f"{page}\n"


def _cells(row: StrategyRow, part: StudyPart) -> list[str]:
    """One row of the table, as the columns want it."""
    sweep, auc = part.evaluation.sweep, row.metrics["auc"]
    intra = inter = None
    if row.members and row.draws == 1:
        intra, inter = objectives(
            sweep.scores, row.members, sweep.spec.search.inter, sweep.front.form
        )
    classes = [m.mean for name, m in row.metrics.items() if name.startswith("accuracy_class_")]
    size = f"{row.draws} draws" if row.draws > 1 else str(len(row.members) or "–")
    closed = row.gap_closed["auc"]
    return [
        f"**{row.strategy}** (G*)" if row.strategy == "selected" else row.strategy,
        size,
        "–" if intra is None else f"{intra:.3f}",
        "–" if inter is None else f"{inter:.3f}",
        _spread(row.metrics["accuracy"]),
        " / ".join(f"{value:.3f}" for value in classes),
        _spread(row.metrics["g_mean"]),
        _spread(auc),
        "–" if auc.low is None else f"{auc.low:.3f}–{auc.high:.3f}",
        "–" if auc.difference is None else f"{auc.difference:+.3f}",
        "–" if auc.p is None else f"{auc.p:.2g}",
        "–" if closed is None else f"{closed:.0%}",
    ]


def _spread(spread: Spread) -> str:
    return f"{spread.mean:.3f}" + ("" if spread.sd is None else f" ± {spread.sd:.3f}")
