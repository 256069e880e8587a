"""What a report says first: which ensemble, why, how good, how sure, at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ensgan.downstream.table import RANKED
from ensgan.report.content import Content
from ensgan.text import counted, duration

_COMPARED = (
    ("real", "real images"),
    ("all", "all members together"),
    ("best-single", "the best single member"),
)


@dataclass(frozen=True)
class Verdict:
    """The first lines of a report.

    Attributes:
        headline: which ensemble.
        lines: why it was chosen, how good it is, how sure that is, what it cost; by title.
        cautions: what is wrong with it, a sentence each.
    """

    headline: str
    lines: Mapping[str, str]
    cautions: Sequence[str]


def verdict(content: Content) -> Verdict:
    """The verdict on a recorded sweep."""
    manifest, table = content.manifest, content.table or {}
    if manifest.selected is None:
        return Verdict("No ensemble was selected", {}, _cautions(content))
    names = manifest.chosen
    headline = (
        f"G* is {len(names)} of {counted(len(manifest.members), 'generator')}: {', '.join(names)}"
    )
    why = manifest.selected.reason.partition("; nearest alternatives")[0].removesuffix(".")
    lines = {"Why": why, "How good": _how_good(table)}
    lines |= {"How sure": str(table.get("verdict") or ""), "Cost": _cost(content)}
    said = {title: text for title, text in lines.items() if text}
    return Verdict(headline, said, _cautions(content))


def _how_good(table: Mapping[str, Any]) -> str:
    rows = {row["strategy"]: row["metrics"] for row in table.get("strategies", ())}
    own: Mapping[str, Any] = next(
        (rows[name] for name in rows if name.partition(":")[0] == "selected"), {}
    )
    if RANKED not in own:
        return ""
    others = [
        f"{words} {_value(rows[name])}" for name, words in _COMPARED if RANKED in rows.get(name, {})
    ]
    return (
        f"trained on its images alone, a classifier reaches an AUC of {_value(own)} on real test "
        f"images{'; for comparison: ' if others else ''}{', '.join(others)}"
    )


def _value(metrics: Mapping[str, Any]) -> str:
    spread = metrics[RANKED]
    low, high = spread.get("low"), spread.get("high")
    interval = "" if low is None else f" (95 % interval {low:.3f} … {high:.3f})"
    return f"{spread['mean']:.3f}{interval}"


def _cost(content: Content) -> str:
    stages = content.manifest.stages
    if "total" not in stages:
        return ""
    trained = sum(result.seconds.get("train", 0.0) for result in content.manifest.members.values())
    anew = content.manifest.earlier is None
    what = "the sweep took" if anew else "on the members of an earlier run this one took"
    parts = [f"{what} {duration(stages['total'])}"]
    if trained:
        parts.append(f"all trainings {duration(trained)} of machine time")
    return ", ".join(parts)


def _cautions(content: Content) -> tuple[str, ...]:
    told = (content.ensemble or {}).get("provenance", {})
    found = told.get("cautions", ()) if isinstance(told, Mapping) else ()
    return tuple(str(caution) for caution in found)
