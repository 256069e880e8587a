"""What ``ensgan score`` shows."""

from __future__ import annotations

import numpy as np
from rich.console import Group, RenderableType

from ensgan.cli.tables import FittingTable
from ensgan.metrics import PoolMeasures
from ensgan.text import counted
from ensgan.types import Float64Array


def summary(
    measures: PoolMeasures, distances: dict[str, float], seconds: float
) -> dict[str, object]:
    """What ``ensgan score --json`` prints."""
    scores, classes = measures.scores, measures.by_class
    value: dict[str, object] = {
        "members": len(scores),
        "k": scores.k,
        "seconds": round(seconds, 3),
        **{name: _by_name(scores.names, each) for name, each in _columns(measures).items()},
    }
    if classes is not None:
        macro = zip(("density", "coverage"), classes.macro(), strict=True)
        value["macro"] = {name: _by_name(scores.names, each) for name, each in macro}
    if distances:
        value["frechet"] = distances
    if scores.resamples is not None:
        value["resamples"] = len(scores.resamples)
    return value


def _columns(measures: PoolMeasures) -> dict[str, Float64Array]:
    return {
        "density": measures.scores.density,
        "coverage": measures.scores.coverage,
        "precision": measures.precision,
        "recall": measures.recall,
    }


def _by_name(names: tuple[str, ...], values: Float64Array) -> dict[str, float | None]:
    # JSON has no NaN.
    return {
        name: None if value != value else value
        for name, value in zip(names, values.tolist(), strict=True)
    }


def tables(
    measures: PoolMeasures,
    distances: dict[str, float],
    rows: dict[str, dict[str, float]],
    inter: str,
    seconds: float,
) -> RenderableType:
    """Scores by member, and the memorisation table where there is one."""
    scores = measures.scores
    overlap = scores.overlap if inter == "symmetric" else scores.directed
    mean = np.nan_to_num(overlap).sum(axis=1) / max(1, len(scores) - 1)
    columns = {**_columns(measures), "Intra-d": scores.capped_intra_d}
    columns |= {"as paper": scores.intra_d, "overlap": mean}
    if distances:
        columns["Fréchet"] = np.array([distances[name] for name in scores.names])
    title = (
        f"{counted(len(scores), 'member')}, k = {scores.k}, {seconds:.1f} s; overlap: mean, {inter}"
    )
    spare = [name for name in reversed(columns) if name != "Intra-d"]
    table = FittingTable("member", *columns, title=title, spare=spare, wraps=("member",))
    for index in np.argsort(-scores.capped_intra_d, kind="stable").tolist():
        # Members taken over from known scores have no precision and recall.
        cells = (f"{each[index]:.4f}".replace("nan", "–") for each in columns.values())
        table.add_row(scores.names[index], *cells)
    return Group(table, "", _memorisation_table(rows)) if rows else table


def _memorisation_table(rows: dict[str, dict[str, float]]) -> FittingTable:
    names = ("copy_candidates", "copy_share", "baseline_share", "c_t", "p_value")
    headings = ("copies", "share", "of held-out", "C_T", "p")
    spare = headings[:0:-1]
    table = FittingTable("member", *headings, title="memorisation", spare=spare, wraps=("member",))
    for member, row in sorted(rows.items(), key=lambda item: -item[1]["copy_share"]):
        table.add_row(member, *(f"{row[name]:.4g}" for name in names))
    return table
