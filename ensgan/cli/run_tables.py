"""What the commands on runs show: JSON-able summaries, and tables for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from ensgan.cli.output import FittingTable, grid, short, whole

if TYPE_CHECKING:
    from ensgan.ensemble import Ensemble
    from ensgan.store import RunRecord

_SUMMARY = ("auc", "intra_d", "inter_d", "density", "coverage")
_UNSET = ("None", "[]", "{}", "")
"""Empty values of settings, which are not shown."""
_SCORES = {"intra_d": "Intra-d", "auc": "AUC", "hypervolume": "hypervolume"}


INTERRUPTED = "interrupted"
"""Status of a run that its store shows as running although no process runs it."""
REPLACED = "replaced"
"""Status of a run whose sweep grew or changed before its end and went on as another run."""


def summary(record: RunRecord, *, is_interrupted: bool = False) -> dict[str, Any]:
    """A sweep as ``runs`` lists it; only the caller can know that it was interrupted."""
    from ensgan.store import TAG_REPLACED

    status = REPLACED if TAG_REPLACED in record.tags else record.status
    members = record.params.get("members", record.tags.get("ensgan.members", ""))
    selected = record.tags.get("ensgan.selected", "")
    return {
        "run_id": record.run_id,
        "name": record.name,
        "status": INTERRUPTED if is_interrupted else status,
        "started": record.started.isoformat(),
        "dataset": record.params.get("dataset", record.tags.get("ensgan.dataset", "")),
        "members": int(members) if members.isdigit() else None,
        "selected": selected.split(",") if selected else [],
        **{name: _finite(record.metrics.get(name)) for name in _SUMMARY},
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def description(ensemble: Ensemble) -> dict[str, Any]:
    """What an ensemble is."""
    facts = ensemble.facts()
    known = facts.pop("metrics")
    words = {name: known[name] for name in ("rule", "reason") if name in known}
    return {**facts, **words, "metrics": {k: v for k, v in known.items() if _is_number(v)}}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def verified(ensemble: Ensemble, unlisted: Sequence[str]) -> dict[str, Any]:
    """What ``verify`` has proven."""
    files = ensemble.manifest.files
    return {
        "verified": True,
        "files": len(files) + 1,
        "bytes": sum(file.bytes for file in files.values()),
        "members": list(ensemble.member_names),
        "unlisted": list(unlisted),
    }


def runs_table(entries: Sequence[dict[str, Any]]) -> FittingTable:
    """Sweeps, one per row."""
    table = FittingTable(
        *("sweep", "status", "AUC", "Intra-d", "size", "data set", "begun", "run"),
        spare=("begun", "data set", "size", "Intra-d", "AUC"),
        wraps=("sweep",),
    )
    for entry in entries:
        table.add_row(
            entry["name"],
            entry["status"],
            _score(entry["auc"]),
            _score(entry["intra_d"]),
            f"{len(entry['selected']) or '–'}/{short(entry['members'])}",
            entry["dataset"] or "?",
            entry["started"][:16].replace("T", " "),
            entry["run_id"],
        )
    return table


def show_table(
    record: RunRecord, children: Sequence[RunRecord], files: dict[str, int]
) -> RenderableType:
    """A run with what lies below it."""
    from ensgan.store import TAG_RECORD

    head = {
        "run": record.run_id,
        "name": record.name,
        "status": record.status,
        "started": f"{record.started:%Y-%m-%d %H:%M:%S} UTC",
        **{name: value for name, value in record.params.items() if value not in _UNSET},
        **{name: short(value) for name, value in record.metrics.items()},
        **{name: value for name, value in record.tags.items() if name != TAG_RECORD},
    }
    spare = ("status", "score")
    below = FittingTable("run below", "name", *reversed(spare), spare=spare, wraps=("name",))
    for child in children:
        name = child.name if child.kind == "gan" else f"{child.kind} {child.name}"
        name = name.removeprefix("search ")
        below.add_row(child.run_id, name, _shown_score(child), child.status)
    stored = FittingTable("file", "bytes", spare=("bytes",), wraps=("file",))
    for name, size in files.items():
        stored.add_row(name, str(size))
    parts = [table for table in (below, stored) if table.rows]
    return Group(grid(head.items()), *(part for table in parts for part in ("", table)))


def _shown_score(record: RunRecord) -> str:
    """The most informative figure of a run below a sweep."""
    for name, label in _SCORES.items():
        if name in record.metrics:
            return f"{label} {record.metrics[name]:.3f}"
    return "–"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def comparison(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Runs side by side: every list has one entry per run, None where a run has no such value."""
    members = [summary(record)["selected"] for record in records]
    params = _side_by_side([record.params for record in records])
    metrics = _side_by_side([record.metrics for record in records])
    return {
        "runs": [record.run_id for record in records],
        "names": [record.name for record in records],
        "params": {name: values for name, values in params.items() if len(set(values)) > 1},
        "metrics": {name: [_finite(v) for v in values] for name, values in metrics.items()},
        "selected": members,
        "shared": [name for name in members[0] if all(name in other for other in members[1:])],
    }


def _side_by_side(columns: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = sorted({name for column in columns for name in column})
    return {name: [column.get(name) for column in columns] for name in names}


def comparison_table(value: dict[str, Any]) -> RenderableType:
    """A comparison, one column per run; what does not fit into columns stands below."""
    runs = [f"{place}. {name}" for place, name in enumerate(value["names"], start=1)]
    table = FittingTable("", *runs, spare=runs[:1:-1], wraps=runs)
    for name, entries in {**value["params"], **value["metrics"]}.items():
        table.add_row(name, *(short(entry) for entry in entries))
    chosen = zip(runs, value["runs"], value["selected"], strict=True)
    return Group(
        table,
        "",
        *(whole(f"{run} is {run_id}: {', '.join(names)}") for run, run_id, names in chosen),
        whole(f"members in all: {', '.join(value['shared']) or 'none'}"),
    )
