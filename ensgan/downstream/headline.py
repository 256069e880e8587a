"""What a downstream table found, as one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ensgan.downstream.table import RANKED

_WORDS = {"real": "real images", "all": "the whole pool", "best-single": "the best single one"}


def headline(table: Mapping[str, Any] | None, chosen: int, pool: int) -> str:
    """What G* is and how it compares, the best rival first.

    Args:
        table: as :meth:`DownstreamTable.to_json` gives it; None without one.
        chosen: members of G*.
        pool: members of the pool.

    Returns:
        one sentence without a full stop.
    """
    rows = {row["strategy"]: row for row in (table or {}).get("strategies", ())}
    selected = rows.pop((table or {}).get("reference"), None)
    what = f"G* is {chosen} of {pool} generators"
    if selected is None:
        return f"{what}; no classifier was trained on its images"
    means = {name: float(row["metrics"][RANKED]["mean"]) for name, row in rows.items()}
    others = sorted(means, key=lambda name: -means[name])
    shown = ", ".join(f"{means[name]:.3f} from {_WORDS.get(name, name)}" for name in others)
    reached = f"{selected['metrics'][RANKED]['mean']:.3f}"
    return (
        f"{what}: a classifier trained on its images alone reaches an AUC of {reached} on real "
        f"test images" + (f", against {shown}" if shown else "")
    )
