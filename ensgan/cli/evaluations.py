"""What ``ensgan evaluate`` and ``ensgan study`` show: progress, and the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from ensgan.cli.output import PlainConsole, progress

if TYPE_CHECKING:
    from rich.table import Table

    from ensgan.evaluation.evaluate import OnProgress, Progress

SHOWN = ("accuracy", "g_mean", "auc")


@contextmanager
def classifiers() -> Iterator[OnProgress]:
    """Progress of an evaluation on stderr: a bar on a terminal, else a line each."""
    if not PlainConsole(stderr=True).is_terminal:
        yield lambda each: typer.echo(sentence(each), err=True)
        return
    with progress("classifiers") as bar:
        yield lambda each: bar(each.done, each.total)


def sentence(each: Progress) -> str:
    """One classifier as one line."""
    if each.metrics is None:
        return f"{each.total} classifiers"
    accuracy, auc = each.metrics["accuracy"], each.metrics["auc"]
    left = "" if each.left is None else f", {each.left:.0f} s left"
    return (
        f"{each.done}/{each.total} {each.strategy} (repeat {each.repeat}): "
        f"accuracy {accuracy:.3f}, AUC {auc:.3f}{left}"
    )


def comparison_table(value: Mapping[str, Any]) -> Table:
    """Strategies with mean ± sd, 95 % interval, p against G* and the part of the gap closed."""
    from rich.table import Column, Table

    reference = value["reference"]
    against = f", p against {reference}" if reference else ""
    # Eighty columns hold it: numbers without blanks, no lines between.
    table = Table(
        Column("strategy", no_wrap=True),
        "n",
        "accuracy",
        "g-mean",
        "AUC",
        "95 % of AUC",
        "p",
        "gap",
        title=f"Downstream test: mean±sd{against}, and part of the gap real − all closed, by AUC",
        title_justify="left",
        caption=value.get("verdict") or None,
        caption_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for row in value["strategies"]:
        auc = row["metrics"]["auc"]
        closed = row["gap_closed"]["auc"]
        interval = "–" if auc["low"] is None else f"{auc['low']:.3f}–{auc['high']:.3f}"
        table.add_row(
            row["strategy"],
            str(len(row["members"]) or "–"),
            *(mean_sd(row["metrics"][name]) for name in SHOWN),
            interval,
            "–" if auc["p"] is None else f"{auc['p']:.2g}",
            "–" if closed is None else f"{closed:.0%}",
        )
    return table


def mean_sd(metric: Mapping[str, Any]) -> str:
    """``0.912±0.010``."""
    spread = "" if metric["sd"] is None else f"±{metric['sd']:.3f}"
    return f"{metric['mean']:.3f}{spread}"
