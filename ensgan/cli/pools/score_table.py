"""What ``ensgan score`` shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Group, RenderableType

from ensgan.cli.output import FittingTable
from ensgan.metrics import PoolMeasures
from ensgan.text import counted
from ensgan.types import Float64Array, PoolScores


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
    if scores.spread is not None:
        value["overlaps"] = _estimates(scores)
    if distances:
        value["frechet"] = distances
    if scores.resamples is not None:
        value["resamples"] = len(scores.resamples)
    return value


def _estimates(scores: PoolScores) -> dict[str, Any]:
    """How many overlaps are exact, and the mean of all with its 95 % interval."""
    from ensgan.search import CONFIDENCE  # late: exact scores need nothing of the search

    assert scores.spread is not None
    pairs = max(1, len(scores) * (len(scores) - 1))
    left = int(np.count_nonzero(scores.estimated)) // 2
    mean = float(np.nansum(scores.directed)) / pairs
    # A member's errors come from its own balls, so they may all have the same sign: add them up.
    error = 1.96 * float(np.linalg.norm(scores.spread.astype(np.float64).sum(axis=1))) / pairs
    interval = [max(0.0, mean - error), mean + error]
    return {
        "exact": pairs // 2 - left,
        "estimated": left,
        "mean": mean,
        "mean_interval": interval,
        "front_confidence": CONFIDENCE,
    }


def _exactness(scores: PoolScores) -> str:
    """How exact the overlaps are, in a sentence."""
    estimates = _estimates(scores)
    low, high = estimates["mean_interval"]
    return (
        f"{estimates['exact']} overlaps exact, {estimates['estimated']} estimated; their mean is "
        f"{estimates['mean']:.4f} ({low:.4f} to {high:.4f}, 95 %); the front is that of exact "
        f"overlaps with {estimates['front_confidence']:.0%} confidence"
    )


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
        values = (float(each[index]) for each in columns.values())
        table.add_row(scores.names[index], *map(_cell, values))
    below: list[RenderableType] = [] if scores.spread is None else [_exactness(scores)]
    below += [_memorisation_table(rows)] if rows else []
    return Group(table, *(part for each in below for part in ("", each)))


def _cell(value: float) -> str:
    """Four decimals; four digits where a distance is huge."""
    if np.isnan(value):
        return "–"
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"


def _memorisation_table(rows: dict[str, dict[str, float]]) -> FittingTable:
    names = ("copy_candidates", "copy_share", "baseline_share", "c_t", "p_value")
    headings = ("copies", "share", "of held-out", "C_T", "p")
    spare = headings[:0:-1]
    table = FittingTable("member", *headings, title="memorisation", spare=spare, wraps=("member",))
    for member, row in sorted(rows.items(), key=lambda item: -item[1]["copy_share"]):
        table.add_row(member, *(f"{row[name]:.4g}" for name in names))
    return table
