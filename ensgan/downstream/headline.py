"""What a downstream table found, as one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ensgan.downstream.table import RANKED

_WORDS = {"real": "real images", "all": "the whole pool", "best-single": "the best single one"}


def headline(table: Mapping[str, Any] | None, chosen: int, pool: int) -> str:
    """What G* is and how it compares.

    Args:
        table: as :meth:`DownstreamTable.to_json` gives it; None without one.
        chosen: members of G*.
        pool: members of the pool.

    Returns:
        one sentence without a full stop.
    """
    what, worth = f"G* is {chosen} of {pool} generators", how_good(table)
    return f"{what}: {worth}" if worth else f"{what}; no classifier was trained on its images"


def how_good(table: Mapping[str, Any] | None, *, intervals: bool = False) -> str:
    """What classifiers trained on the images of G* reach, and on what else, the best first.

    Args:
        table: as :meth:`DownstreamTable.to_json` gives it; None without one.
        intervals: of 95 % too, and of those strategies alone that are known by words.

    Returns:
        a sentence without a full stop; "" where no classifier was trained on them.
    """
    rows = {row["strategy"]: row["metrics"][RANKED] for row in (table or {}).get("strategies", ())}
    selected = rows.pop((table or {}).get("reference"), None)
    if selected is None:
        return ""

    def shown(area: Mapping[str, Any]) -> str:
        told = intervals and area["low"] is not None
        span = f" (95 % interval {area['low']:.3f} … {area['high']:.3f})" if told else ""
        return f"{area['mean']:.3f}{span}"

    order = sorted(rows, key=lambda name: -rows[name]["mean"])
    compared = ", ".join(
        f"{shown(rows[name])} from {_WORDS.get(name, name)}"
        for name in order
        if name in _WORDS or not intervals
    )
    return (
        f"a classifier trained on its images alone reaches an AUC of {shown(selected)} on real "
        f"test images{', against ' if compared else ''}{compared}"
    )
