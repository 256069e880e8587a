"""The table that ``ensgan select`` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from ensgan.types import Front, Selection


def selection_table(front: Front, selection: Selection, value: Mapping[str, Any]) -> Table:
    """The choice, its alternatives and whatever else was asked for."""
    from rich.table import Table

    table = Table(title=selection.reason, title_justify="left")
    axes = [axis.name for axis in front.axes]
    for column in ("", *axes, "members"):
        table.add_column(column)

    def add(label: str, first: str, second: str, text: str) -> None:
        table.add_row(label, first, second, *[""] * (len(axes) - 2), text)

    rows = [("chosen", selection.point), *(("alternative", p) for p in selection.alternatives)]
    for label, point in rows:
        cells = front.cells(point)
        table.add_row(label, *(cells[name] for name in axes), ", ".join(point.members))
    if "bootstrap" in value:
        found = value["bootstrap"]
        first, second = (_interval(found.get(name)) for name in ("intra_d", "inter_d"))
        drawn = " and ".join(found["covers"])
        add(f"{found['level']:.0%} of resamples", first, second, f"{drawn} resampled")
    for label, key in (("weighted", "weighted"), ("other scores", "other_scores")):
        if key in value:
            point = value[key]
            shares = ", ".join(f"{weight:.3f}" for weight in point.get("weights", ()))
            add(label, f"{point['intra_d']:.4f}", f"{point['inter_d']:.4f}", shares)
    if "membership" in value:
        for name in selection.point.members:
            share = value["membership"][name]
            add("membership", f"{share:.0%}", "", f"{name}: resamples with it on a front")
    for name, shares in value.get("side_by_side", {}).get("members", {}).items():
        numbers = ", ".join(f"{share:.0%}" for share in shares)
        add("side by side", "", "", f"{name}: on {numbers} of each front's points")
    return table


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.4f}–{bounds[1]:.4f}"
