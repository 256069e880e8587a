"""Commands on recorded sweeps and their ensembles: find, look at, fetch, verify, use."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ensgan.cli.output import JsonOption, emit, note, warn
from ensgan.cli.run_tables import (
    comparison,
    comparison_table,
    description,
    lines,
    runs_table,
    show_table,
    summary,
    verified,
)
from ensgan.errors import InputError
from ensgan.files import first_bytes

MOST_RUNS = 1_000_000
"""Sweeps that are looked through."""
StorageOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Folder of sweeps and results.  [default: $ENSGAN_STORAGE or ensgan-runs]"),
]
UriOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="MLflow address.  [default: $MLFLOW_TRACKING_URI or SQLite in the storage]"),
]
SourceArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="RUN|DIR", help="Run ID of a sweep, models:/NAME@ALIAS, or an ensemble folder."
    ),
]


def runs(
    sort: Annotated[
        str,
        typer.Option(
            help="Field to sort by: date, name, status, or a metric or parameter such as intra_d, "
            "inter_d, size (of the ensemble), members (of the pool), dataset; a leading '-' puts "
            "the greatest first."
        ),
    ] = "-date",
    dataset: Annotated[str | None, typer.Option(help="Only sweeps on this data set.")] = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only running, interrupted, finished, failed or killed sweeps."),
    ] = None,
    gan: Annotated[
        str | None, typer.Option(help="Only sweeps whose ensemble has a member of this GAN.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only sweeps begun since (UTC).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many sweeps.")] = 100,
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """List the recorded sweeps.

    Example: ensgan runs --dataset pneumoniamnist --sort -intra_d
    """
    from ensgan.store import default_storage, open_store, status_named
    from ensgan.sweep.status import INTERRUPTED, interrupted_runs

    store = open_store(uri, storage)
    interrupted = interrupted_runs((storage or default_storage()).resolve())
    params = {"dataset": dataset} if dataset else {}
    wanted = status if status in (None, INTERRUPTED) else status_named(status)
    order = {"date": "started", "-date": "-started"}.get(sort, sort)
    listed = [
        entry
        for record in store.find(params=params, order=order, limit=MOST_RUNS)
        for entry in [summary(record, is_interrupted=record.run_id in interrupted)]
        if wanted in (None, entry["status"])
        and (gan is None or gan in {name.partition("@")[0] for name in entry["selected"]})
        and (since is None or record.started >= since.replace(tzinfo=timezone.utc))
    ][:limit]
    if not listed:
        note(f"no such sweeps are recorded in {store.uri}")
    emit({"runs": listed}, as_json=json, table=lambda: runs_table(listed))


def show(
    run: Annotated[str, typer.Argument(help="Run ID.")],
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Show one run: settings, scores, the runs below it and its files.

    Example: ensgan show 3f2a9c…
    """
    from ensgan.store import open_store

    store = open_store(uri, storage)
    record = store.get(run)
    children = store.children(run)
    value = {
        **record.to_json(),
        "children": [child.to_json() for child in children],
        "files": store.files(run),
    }
    emit(value, as_json=json, table=lambda: show_table(record, children, value["files"]))


def pull(
    run: Annotated[str, typer.Argument(help="Run ID of a sweep, or models:/NAME@ALIAS.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the ensemble.")],
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Fetch a sweep's ensemble to a folder and verify every file of it.

    Example: ensgan pull 3f2a9c… -o ensemble/
    """
    from ensgan.ensemble import pull as pull_ensemble
    from ensgan.outputs import claim_folder
    from ensgan.store import open_store, run_of_model

    claim_folder(output)
    store = open_store(uri, storage)
    run_id = run_of_model(store, run)
    ensemble = pull_ensemble(store, run_id, output)
    value = {"run_id": run_id, "folder": str(output), **description(ensemble)}
    emit(value, as_json=json, table=lambda: lines(value))


def verify(
    source: SourceArgument,
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Re-hash an ensemble's files and compare every tensor with its manifest.

    Example: ensgan verify ensemble/
    """
    import tempfile

    from ensgan.ensemble import load_ensemble, unlisted_files
    from ensgan.ensemble import pull as pull_ensemble
    from ensgan.store import open_store, run_of_model

    with tempfile.TemporaryDirectory(prefix="ensgan-verify-") as folder:
        if Path(source).is_dir():
            ensemble = load_ensemble(source)
        else:
            store = open_store(uri, storage)
            run_id = run_of_model(store, source)
            ensemble = pull_ensemble(store, run_id, Path(folder) / "ensemble")
        unlisted = unlisted_files(ensemble.folder, ensemble.manifest)
        value = verified(ensemble, unlisted)
    if unlisted:
        warn(f"not listed in the manifest and never opened: {', '.join(unlisted[:5])}")
    emit(value, as_json=json, table=lambda: lines(value))


def compare(
    run: Annotated[list[str], typer.Argument(metavar="RUN RUN…", help="Run IDs.")],
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Set runs side by side: the settings that differ, all scores, the members they share.

    Example: ensgan compare 3f2a9c… 81be07…
    """
    from ensgan.store import open_store

    if len(run) < 2:
        raise InputError("name at least two runs to compare")
    store = open_store(uri, storage)
    value = comparison([store.get(run_id) for run_id in run])
    emit(value, as_json=json, table=lambda: comparison_table(value))


def promote(
    run: Annotated[str, typer.Argument(help="Run ID of a sweep.")],
    name: Annotated[str | None, typer.Option(help="Model name.  [default: ensgan-DATASET]")] = None,
    alias: Annotated[str, typer.Option(help="Alias to give it.")] = "champion",
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Register a sweep's ensemble in MLflow's model registry under an alias.

    Example: ensgan promote 3f2a9c… --alias champion
    """
    from ensgan.ensemble.pyfunc import LOADER
    from ensgan.store import open_store
    from ensgan.store import promote as promote_run

    store = open_store(uri, storage)
    model = name or f"ensgan-{summary(store.get(run))['dataset'] or 'ensemble'}"
    version = promote_run(store, run, name=model, alias=alias, loader=LOADER)
    value = {"model": model, "version": version, "alias": alias, "use": f"models:/{model}@{alias}"}
    emit(value, as_json=json, table=lambda: lines(value))


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    storage: StorageOption = None,
    uri: UriOption = None,
) -> None:
    """Open the MLflow pages of the recorded sweeps on this machine; Ctrl-C ends them.

    Example: ensgan ui --port 5001
    """
    from ensgan.store import open_store

    def say(address: str) -> None:
        typer.echo(f"The pages are at {address} (Ctrl-C ends them)")

    raise typer.Exit(open_store(uri, storage).serve_pages(port, say))


def report(
    run: Annotated[str, typer.Argument(help="Run ID of a finished sweep.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")] = Path(
        "report.html"
    ),
    show_real: Annotated[
        bool,
        typer.Option(help="Show real training images too; needs the sweep's folder here."),
    ] = False,
    log: Annotated[
        bool, typer.Option(help="Also store the page with the run and link it there.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is no report.")
    ] = False,
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Write a sweep's report: one HTML file that needs no network.

    It shows what was run, the front, the overlap map, the members with their images, the selected
    ensemble and why, the downstream test, memorisation, environment and licences. No real image
    is in it unless --show-real is given.

    Example: ensgan report 3f2a9c… -o report.html
    """
    from ensgan.files import write_bytes
    from ensgan.outputs import claim_output
    from ensgan.recording.views import log_report
    from ensgan.report.content import collect
    from ensgan.report.page import render
    from ensgan.store import default_storage, open_store

    if output.suffix not in (".html", ".htm"):
        raise InputError(f"'{output}' is no HTML file: name it report.html, for example")
    if log and show_real:
        raise InputError("--log would put real images into the tracking store: drop --show-real")
    claim_output(output, is_ours=_is_report, force=force)
    store = open_store(uri, storage)
    real_from = (storage or default_storage()).resolve() if show_real else None
    content = collect(store, run, real_from=real_from)
    page = render(content).encode()
    write_bytes(output, page)
    if log:
        log_report(store, run, content.manifest, page)
    if show_real:
        warn(f"{output} shows real training images: treat it as you treat the data set")
    value = {"run_id": run, "report": str(output), "bytes": len(page), "real_images": show_real}
    emit(value, as_json=json, table=lambda: lines(value))


def _is_report(path: Path) -> bool:
    """Whether a file is a report: its title says so near the beginning."""
    return b"ensgan report</title>" in first_bytes(path, 1 << 16)
