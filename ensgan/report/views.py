"""A sweep's results as a tracking store shows them: parameters, metrics, tables, pages."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ensgan.downstream.statistics import RANKED, headline
from ensgan.ensemble import TAG_DIGEST, ensemble_digest
from ensgan.report.content import Content, by_gan, cautions, grown_from
from ensgan.search import find_form
from ensgan.store import TAG_DATASET, TAG_SELECTED, RunStore
from ensgan.store.record import NOTHING
from ensgan.sweep.manifest import Manifest
from ensgan.sweep.planning.measured import History
from ensgan.sweep.records import MemberResult
from ensgan.text import counted, markdown, spreadsheet_cell
from ensgan.types import gan_of, row_of

REPORT_FOLDER, REPORT = "0-report", "0-report/report.html"
"""Where the report is among a sweep's files: MLflow lists folders first, by name."""
DESCRIPTION = "mlflow.note.content"
"""Tag that MLflow's pages show as a run's description."""


def health(results: Sequence[MemberResult]) -> list[str]:
    """One line per member with warnings."""
    return [f"{result.name}: {', '.join(result.health)}" for result in results if result.health]


def common(manifest: Manifest) -> dict[str, Any]:
    """Parameters that every run of a sweep carries: data, seed, code."""
    return {
        "dataset": manifest.dataset.name,
        "dataset.key": manifest.dataset.key,
        "seed": manifest.settings.seed,
        **code(manifest.versions),
    }


def variation(manifest: Manifest, gan: str) -> dict[str, Any]:
    """Parameters of a GAN's run in a sweep that varies settings: which row, and every value.

    Their names sort before those of all other parameters that differ between GANs, because
    MLflow's parallel-coordinates plot starts with the first three.
    """
    if not manifest.variations:
        return {}
    values = manifest.variations.get(gan, {})
    return {"config.gan": row_of(gan), **{f"config.{key}": value for key, value in values.items()}}


def common_tags(manifest: Manifest) -> dict[str, str]:
    """Tags that every run of a sweep carries."""
    return {TAG_DATASET: manifest.dataset.name, **code_tags(manifest.versions)}


def grown_tags(manifest: Manifest) -> dict[str, str]:
    """Tags of a sweep's run that grew from another."""
    sentence = grown_from(manifest)
    if manifest.earlier is None or not sentence:
        return {}
    return {"ensgan.grown_from": manifest.earlier.run or "unrecorded", "ensgan.grown": sentence}


def chosen_tags(members: Sequence[str], rule: str, folder: Path) -> dict[str, str]:
    """Tags of a sweep's run that name G*, its rule and its artifact."""
    return {
        TAG_SELECTED: ",".join(members),
        "ensgan.rule": rule,
        TAG_DIGEST: ensemble_digest(folder),
    }


def code(versions: Mapping[str, str]) -> dict[str, str]:
    """Parameters that name the code that made something."""
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
    """Metrics of a GAN's run at a snapshot."""
    return {
        **result.metrics,
        "intra_d": result.intra_d,
        "density": result.density,
        "coverage": result.coverage,
    }


def history(results: Sequence[MemberResult]) -> list[tuple[int, dict[str, float]]]:
    """Losses and pace while the members' GAN was trained, at most 200 points; none of others."""
    folders = dict.fromkeys(result.weights.parent for result in results)
    return [
        (step, {f"train/{name}": value for name, value in values.items()})
        for folder in folders
        for step, values in History.load(folder)
    ]


def downstream_metrics(table: Mapping[str, Any]) -> dict[str, float]:
    """What a sweep's own run shows of the downstream test, so that runs can be sorted by it.

    Metrics of G* under their own names, those of the strategies it is compared with as
    ``auc.STRATEGY``, and how much of the gap between ``all`` and ``real`` G* closes.
    """
    values: dict[str, float] = {}
    for row in table["strategies"]:
        metrics, name = strategy_metrics(row), row["strategy"].replace(":", "-")
        if row["strategy"] == table["reference"]:
            values.update(metrics)
            closed = row["gap_closed"].get("auc")
            values |= {} if closed is None else {"gap_closed.auc": closed}
        elif "auc" in metrics:
            values[f"auc.{name}"] = metrics["auc"]
    return values


def strategy_metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """Means and standard deviations of a table row."""
    values: dict[str, float] = {}
    for name, metric in row["metrics"].items():
        values[name] = metric["mean"]
        if metric["sd"] is not None:
            values[f"{name}_sd"] = metric["sd"]
    return values


def members_csv(manifest: Manifest) -> bytes:
    """One row per member: what was varied, scores, whether it was selected, warnings, its hash."""
    chosen = set(manifest.chosen)
    varied = list(dict.fromkeys(key for values in manifest.variations.values() for key in values))
    scores = ("intra_d", "density", "coverage", "label_consistency")
    fields = ("member", *varied, *scores, "selected", "health", "sha256")
    rows = [
        (
            result.name,
            *(manifest.variations.get(gan_of(result.name), {}).get(key, "") for key in varied),
            *(result.intra_d, result.density, result.coverage),
            manifest.label_shares.get(result.name, ""),
            *(result.name in chosen, "; ".join(result.health), result.sha256),
        )
        for results in by_gan(manifest).values()
        for result in results
    ]
    return _csv(fields, rows)


def downstream_csv(table: Mapping[str, Any]) -> bytes:
    """A row per strategy, the best first; of metrics the mean, then interval, spread and test."""
    first = (RANKED, "accuracy", "g_mean")
    known = dict.fromkeys(name for row in table["strategies"] for name in row["metrics"])
    metrics = sorted(known, key=lambda name: first.index(name) if name in first else len(first))
    more = ("low", "high", "sd", "difference", "p")
    fields = (
        *("strategy", *metrics, "members", "repeats"),
        *(f"{name}_{part}" for name in metrics for part in more),
    )
    rows = []
    for row in sorted(table["strategies"], key=lambda row: -row["metrics"][RANKED]["mean"]):
        spreads = [row["metrics"].get(name, {}) for name in metrics]
        means = [spread.get("mean") for spread in spreads]
        parts = [spread.get(part) for spread in spreads for part in more]
        rows.append((row["strategy"], *means, len(row["members"]), row["repeats"], *parts))
    return _csv(fields, rows)


def description(
    manifest: Manifest,
    run_id: str,
    *,
    report: str = "",
    outcome: str = "",
    remarks: Sequence[str] = (),
    below: Mapping[str, str] = NOTHING,
) -> str:
    """Markdown for the run's page: what was found, the front, the report, the runs below.

    Args:
        report: address of the report on the store's pages; empty when it has none.
        outcome: what came out, in one sentence.
        remarks: the verdict and what is wrong with G*, a sentence each.
        below: by GAN, the address of its run on the store's pages.
    """
    selected, external = manifest.selected, len(manifest.external)
    lines = [f"**{markdown(outcome)}.**"] if outcome else []
    if report:
        # At the top: MLflow folds what is below.
        picture = f"![Pareto front](get-artifact?path=front%2Ffront.png&run_uuid={run_id})"
        lines += [] if selected is None else [picture]
        lines.append(f"[Report]({report}): what was run, front, members, downstream test, privacy.")
    lines += [f"{markdown(remark)}." for remark in remarks]
    if selected is not None:
        names = ", ".join(markdown(name) for name in selected.members)
        form = find_form(manifest.settings.search.objectives)
        values = zip(form.axes, selected.first_two, strict=True)
        shown = ", ".join(f"{axis.name} {value:.4f}" for axis, value in values)
        lines.append(f"**G\\***: {names} ({shown}, rule {markdown(selected.rule)}).")
    trained = f"{counted(manifest.planned - external, 'generator')} trained on "
    more = f", {external} from elsewhere" if external else ""
    lines.append(f"{trained}{markdown(manifest.dataset.name)}{more}.")
    if sentence := grown_from(manifest):
        lines.append(markdown(sentence))
    if below:
        links = ", ".join(f"[{markdown(gan)}]({place})" for gan, place in below.items())
        lines.append(f"GANs: {links}.")
    if manifest.ensemble is not None:
        lines.append(f"Fetch it: `ensgan pull {run_id} -o ensemble/`")
    lines.append("Synthetic images, research only; not for clinical use.")
    return "\n\n".join(lines)


def log_report(store: RunStore, shown: Content, page: bytes) -> None:
    """Store a sweep's report with its run, and describe there what was found.

    Args:
        shown: the sweep as recorded.
        page: its report, without real images.
    """
    manifest, run_id = shown.manifest, shown.record.run_id
    with tempfile.TemporaryDirectory(prefix="ensgan-report-") as folder:
        path = Path(folder) / Path(REPORT).name
        path.write_bytes(page)
        store.log_file(run_id, path, REPORT_FOLDER)
    selected, members = manifest.selected, len(manifest.members)
    gans = [child for child in store.children(run_id) if child.kind == "gan"]
    text = description(
        manifest,
        run_id,
        report=store.page(run_id, REPORT),
        outcome=headline(shown.table, len(selected.members), members) if selected else "",
        remarks=[text for text in ((shown.table or {}).get("verdict"), *cautions(shown)) if text],
        below={gan.name: place for gan in gans if (place := store.page(gan.run_id))},
    )
    store.set_tags(run_id, {DESCRIPTION: text})


def _csv(fields: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(fields)
    writer.writerows(
        [round(value, 6) if isinstance(value, float) else spreadsheet_cell(value) for value in row]
        for row in rows
    )
    return stream.getvalue().encode()
