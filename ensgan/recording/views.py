"""How a sweep's results read in a tracking store: parameters, metrics, tables, a description."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ensgan.ensemble import markdown
from ensgan.search import find_form
from ensgan.sweep.member_job import MemberResult
from ensgan.types import DEFAULT_FORM, Front, FrontPoint, gan_of, step_of


def by_gan(manifest: Mapping[str, Any]) -> dict[str, list[MemberResult]]:
    """Members by GAN, in step order."""
    groups: dict[str, list[MemberResult]] = {}
    for value in manifest.get("members", {}).values():
        result = MemberResult.from_json(value)
        groups.setdefault(gan_of(result.name), []).append(result)
    for results in groups.values():
        results.sort(key=lambda result: step_of(result.name))
    return groups


def health(results: Sequence[MemberResult]) -> list[str]:
    """One line a member with warnings."""
    return [f"{result.name}: {', '.join(result.health)}" for result in results if result.health]


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted leaves of the spec, for flat parameters."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def common(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that every run of a sweep carries: data, seed, code."""
    return {
        "dataset": manifest["dataset"]["name"],
        "dataset.key": manifest["dataset"]["key"],
        "seed": manifest["spec"]["seed"],
        **code(manifest["versions"]),
    }


def code(versions: Mapping[str, str]) -> dict[str, str]:
    """Parameters that say with which code something was made."""
    return {"ensgan": versions["ensgan"], "commit": versions.get("commit", "unknown")}


def code_tags(versions: Mapping[str, str]) -> dict[str, str]:
    """The commit where MLflow's pages look for it, and the command that ran."""
    tags = {
        "mlflow.source.git.commit": versions.get("commit", ""),
        "ensgan.command": versions.get("command", ""),
    }
    return {name: value for name, value in tags.items() if value}


def version_params(versions: Mapping[str, str]) -> dict[str, str]:
    """Every version and the machine, as parameters of a run that is not part of another."""
    return {f"version.{name}": str(value) for name, value in versions.items() if name != "command"}


def member_metrics(result: MemberResult) -> dict[str, float]:
    """What a GAN's run shows at a snapshot."""
    return {
        **result.metrics,
        "intra_d": result.intra_d,
        "density": result.density,
        "coverage": result.coverage,
    }


def strategy_metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """Means and standard deviations of a table row."""
    values: dict[str, float] = {}
    for name, metric in row["metrics"].items():
        values[name] = metric["mean"]
        if metric["sd"] is not None:
            values[f"{name}_sd"] = metric["sd"]
    return values


def members_csv(manifest: Mapping[str, Any]) -> bytes:
    """One row a member: scores, whether it was selected, warnings, the hash of its weights."""
    chosen = set(manifest.get("selected", {}).get("members", ()))
    fields = ("member", "intra_d", "density", "coverage", "selected", "health", "sha256")
    rows = [
        (
            *(result.name, result.intra_d, result.density, result.coverage),
            *(result.name in chosen, "; ".join(result.health), result.sha256),
        )
        for results in by_gan(manifest).values()
        for result in results
    ]
    return _csv(fields, rows)


def downstream_csv(table: Mapping[str, Any]) -> bytes:
    """One row a strategy; of every metric the mean, then its interval, spread and test."""
    first = ("g_mean", "accuracy", "auc")
    known = dict.fromkeys(name for row in table["strategies"] for name in row["metrics"])
    metrics = sorted(known, key=lambda name: first.index(name) if name in first else len(first))
    more = ("low", "high", "sd", "difference", "p")
    fields = (
        *("strategy", *metrics, "members", "repeats"),
        *(f"{name}_{part}" for name in metrics for part in more),
    )
    rows = []
    for row in table["strategies"]:
        spreads = [row["metrics"].get(name, {}) for name in metrics]
        means = [spread.get("mean") for spread in spreads]
        parts = [spread.get(part) for spread in spreads for part in more]
        rows.append((row["strategy"], *means, len(row["members"]), row["repeats"], *parts))
    return _csv(fields, rows)


def chosen_point(front: Front, manifest: Mapping[str, Any]) -> FrontPoint | None:
    """The selected point of a front."""
    members = tuple(manifest.get("selected", {}).get("members", ()))
    return next((point for point in front if point.members == members), None)


def description(manifest: Mapping[str, Any], run_id: str, page: str) -> str:
    """Markdown for the run's page: what was chosen, where the report is, how to fetch it.

    Args:
        page: address of the report on the store's pages; empty when it has none.
    """
    selected = manifest.get("selected")
    dataset = markdown(manifest["dataset"]["name"])
    outside = len(manifest.get("outside", ()))
    lines = [f"{manifest['planned'] - outside} generators trained on {dataset}."]
    if outside:
        lines[0] = f"{lines[0][:-1]}, {outside} from elsewhere."
    if selected is not None:
        names = ", ".join(markdown(name) for name in selected["members"])
        form = find_form(manifest["spec"].get("search", {}).get("objectives", DEFAULT_FORM))
        point = FrontPoint.from_json(selected)
        values = zip(form.axes, (point.first, point.second), strict=True)
        shown = ", ".join(f"{axis.name} {value:.4f}" for axis, value in values)
        lines.append(f"**G\\***: {names} ({shown}, rule {markdown(selected['rule'])}).")
    if page:
        lines.append(f"[Report]({page}): what was run, front, members, downstream test, privacy.")
    if "ensemble" in manifest:
        lines.append(f"Fetch it: `ensgan pull {run_id} -o ensemble/`")
    lines.append("Synthetic images, research only; not for clinical use.")
    return "\n\n".join(lines)


def _csv(fields: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(fields)
    writer.writerows(
        [round(value, 6) if isinstance(value, float) else value for value in row] for row in rows
    )
    return stream.getvalue().encode()
