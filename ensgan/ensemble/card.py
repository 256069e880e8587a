"""The card (README.md) that travels with an ensemble."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ensgan.text import markdown
from ensgan.types import gan_of

_NON_COMMERCIAL = re.compile(r"\bNC\b|-NC-|-NC\b|non-?commercial", re.IGNORECASE)
_CLASSIFIER = ("accuracy", "g_mean", "auc")
_LONGEST_LINE = 300
_UNRECORDED = "Not recorded."
_OWN_SECTIONS = ("downstream", "memorisation")
_PRIVACY = (
    ("images", "images"),
    ("copy_candidates", "copy candidates"),
    ("copy_share", "their share"),
    ("baseline_share", "share among held-out real images"),
    ("authenticity", "authenticity"),
    ("c_t", "C_T"),
    ("p_value", "p"),
)


def non_commercial(licences: Iterable[str]) -> list[str]:
    """The licence notes that forbid commercial use."""
    return [note for note in licences if _NON_COMMERCIAL.search(note)]


def card_text(manifest: Mapping[str, Any]) -> str:
    """Markdown of the card for the content of ``ensemble.json`` (``files`` not needed)."""
    # Imported late: opening and sampling an ensemble write no card.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ensgan.ensemble"),
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markdown"] = markdown
    environment.globals.update(table=_table, listed=_listed, unrecorded=_UNRECORDED)
    metrics, provenance = manifest["metrics"], manifest["provenance"]
    shares = zip(manifest["class_names"], manifest["class_shares"], strict=False)
    return environment.get_template("card.md").render(
        manifest,
        are_trained={one["kind"] for one in manifest["members"]} == {"gan"},
        labels=[(index, name, f"{share:.1%}") for index, (name, share) in enumerate(shares)],
        generators=_generators(manifest),
        scores={key: value for key, value in metrics.items() if key not in _OWN_SECTIONS},
        **_downstream(metrics.get("downstream")),
        memorisation=metrics.get("memorisation"),
        privacy=_privacy(metrics.get("memorisation")),
        flagged=non_commercial(manifest["licences"]),
        notes=[*provenance.get("cautions", ()), *provenance.get("known_failures", ())],
        made={key: value for key, value in provenance.items() if key != "variations"},
    )


def _generators(manifest: Mapping[str, Any]) -> tuple[Sequence[str], list[list[Any]]]:
    """Header and rows of the members; where their sweep varied settings, with those of each."""
    varied = manifest["provenance"].get("variations", {})
    rows = [
        [one["name"], one["kind"], f"{one['weight']:.1%}"]
        + ([varied.get(gan_of(one["name"]), {})] if varied else [])
        for one in manifest["members"]
    ]
    return ("member", "kind", "share", *(["settings"] if varied else [])), rows


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [[markdown(cell) for cell in row] for row in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _downstream(table: Any) -> dict[str, Any]:
    """The classifiers trained on each strategy's images: means on real test images, the verdict.

    Args:
        table: as :meth:`ensgan.downstream.DownstreamTable.to_json` gives it; None without one.
    """
    table = table or {"strategies": []}
    tested = table["strategies"]
    names = [name for name in _CLASSIFIER if any(name in row["metrics"] for row in tested)]
    rows = [
        [row["strategy"], row["repeats"], *(_spread(row["metrics"].get(name)) for name in names)]
        for row in tested
    ]
    verdict = table.get("verdict") or table.get("undecided")
    classifiers = (("trained on", "repeats", *names), rows)
    return {"classifiers": classifiers, "verdict": verdict} if names else {}


def _spread(entry: Any) -> str:
    if entry is None:
        return "–"
    sd = entry["sd"]
    return f"{entry['mean']:.3f}" + ("" if sd is None else f" ± {sd:.3f}")


def _privacy(measured: Any) -> tuple[Sequence[str], list[list[Any]]]:
    """Header and rows of the memorisation test, for the whole ensemble and for each member."""
    tested = {}
    if measured and "ensemble" in measured:
        tested = {"all members together": measured["ensemble"], **measured["members"]}
    rows = [[name, *(row.get(key, "") for key, _ in _PRIVACY)] for name, row in tested.items()]
    return ("images of", *(label for _, label in _PRIVACY)), rows


def _listed(values: Mapping[str, Any]) -> str:
    """A list of the values that fit on one line; for others it refers to the manifest."""
    lines = []
    for key, value in values.items():
        text = markdown(value)
        if text and (len(text) <= _LONGEST_LINE or isinstance(value, str)):
            lines.append(f"- {markdown(key)}: {text}")
        elif text:
            lines.append(f"- {markdown(key)}: see ensemble.json")
    return "\n".join(lines) or _UNRECORDED
