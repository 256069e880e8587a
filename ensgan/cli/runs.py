"""Commands on recorded sweeps and their ensembles: find, look at, fetch, verify, use."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ensgan.cli import run_tables
from ensgan.cli.output import JsonOption, emit, lines, note, warn
from ensgan.errors import InputError, unknown_name

if TYPE_CHECKING:
    from ensgan.store import RunRecord, RunStore

_OURS = ("sweeps", "mlflow.db", "artifacts", "evaluations", "pulled")
"""Entries that make a folder look like a storage of ours."""
_FIELDS = {"date": "started", "name": "name", "status": "status"}
"""What every run can be sorted by, and what stores call it."""
StorageOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Folder of sweeps and results.  [default: $ENSGAN_STORAGE or ensgan-runs]"),
]
UriOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="MLflow address.  [default: $MLFLOW_TRACKING_URI or SQLite in the storage]"),
]
RUN_HELP = "a sweep's name, the beginning of a run ID, 'latest', or models:/NAME@ALIAS"


def sweep_names(incomplete: str) -> list[str]:
    """For shell completion: ``latest``, and the sweeps of the default storage."""
    storage = Path(os.environ.get("ENSGAN_STORAGE") or "ensgan-runs")
    names = ["latest", *sorted(path.parent.name for path in storage.glob("sweeps/*/manifest.json"))]
    return [name for name in names if name.startswith(incomplete)]


RunArgument: TypeAlias = Annotated[
    str, typer.Argument(help=f"Which run: {RUN_HELP}.", autocompletion=sweep_names)
]
SourceArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="RUN|DIR",
        help=f"An ensemble folder, or {RUN_HELP}.",
        autocompletion=sweep_names,
    ),
]


def find(run: str, uri: str | None, storage: Path | None) -> tuple[RunStore, str]:
    """The store, and the ID of the run that was named.

    Raises:
        InputError: no run fits, or several do.
    """
    from ensgan.store import find_run

    store = _opened(uri, storage)
    return store, find_run(store, run)


def _opened(uri: str | None, storage: Path | None) -> RunStore:
    """The store, with a note if opening it takes seconds."""
    from ensgan.store import open_store

    store = open_store(uri, storage)
    if store.uri.startswith("http"):  # other stores are read without MLflow
        note(f"loading MLflow to ask {store.uri} …")
    return store


def open_recorded(uri: str | None, storage: Path | None) -> RunStore:
    """The store of a storage or address that the user named.

    Raises:
        InputError: the storage is named and is no folder of sweeps.
    """
    store = _opened(uri, storage)
    if storage is not None and not storage.is_dir():
        raise InputError(f"--storage {storage} is no folder: name the one that holds sweeps/")
    names = set() if storage is None else {path.name for path in storage.iterdir()}
    if names and names.isdisjoint(_OURS):
        raise InputError(
            f"--storage {storage} holds other things than sweeps: name the folder that holds "
            "sweeps/ and mlflow.db"
        )
    return store


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
        typer.Option(
            help="Only running, interrupted, replaced, finished, failed or killed sweeps."
        ),
    ] = None,
    gan: Annotated[
        str | None, typer.Option(help="Only sweeps whose ensemble has a member of this GAN.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only sweeps begun since (UTC).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many sweeps.")] = 100,
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """List the recorded sweeps.

    Example: ensgan runs --dataset pneumoniamnist --sort -intra_d
    """
    from ensgan.store import default_storage, sort_runs, status_named
    from ensgan.types import gan_of, row_of

    store = open_recorded(uri, storage)
    wanted = (
        status
        if status in (None, run_tables.INTERRUPTED, run_tables.REPLACED)
        else status_named(status)
    )
    records, interrupted = store.find(), set[str]()
    if any(one.status == "running" for one in records):
        from ensgan.sweep.live.status import interrupted_runs  # late: it takes as long as the rest

        interrupted = interrupted_runs((storage or default_storage()).resolve())
    records = sort_runs(records, _order(sort, records))
    entries = [
        (one, run_tables.summary(one, is_interrupted=one.run_id in interrupted)) for one in records
    ]
    datasets = {entry["dataset"] for _, entry in entries}
    if dataset and dataset not in datasets:
        warn(f"no recorded sweep is on data set '{dataset}': they are on {_listed(datasets)}")
    listed = [
        entry
        for record, entry in entries
        if wanted in (None, entry["status"])
        and dataset in (None, entry["dataset"])
        and (gan is None or gan in {of(n) for n in entry["selected"] for of in (gan_of, row_of)})
        and (since is None or record.started >= since.replace(tzinfo=timezone.utc))
    ][:limit]
    if not listed:
        note(f"no such sweeps are recorded in {store.uri}")
    emit({"runs": listed}, as_json=json, table=lambda: run_tables.runs_table(listed))


def _order(sort: str, records: Sequence[RunRecord]) -> str:
    """The store's name for the order that was asked for.

    Raises:
        InputError: no run has such a field.
    """
    name, down = sort.removeprefix("-"), sort[: len(sort) - len(sort.removeprefix("-"))]
    tags = (tag.removeprefix("ensgan.") for one in records for tag in one.tags)
    known = {*_FIELDS, *tags, *(key for one in records for key in (*one.metrics, *one.params))}
    if records and name not in {*known, *_FIELDS.values()}:
        near = unknown_name("field", name, known).partition(": known are ")[0]
        raise InputError(
            f"--sort: {near}; fields are {', '.join(_FIELDS)}, and every setting and score that "
            "'ensgan show RUN' lists"
        )
    return down + _FIELDS.get(name, name)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(name for name in names if name)) or "none"


def show(
    run: RunArgument,
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Show one run: settings, scores, the runs below it and its files.

    Example: ensgan show quickstart
    """
    store, run = find(run, uri, storage)
    record = store.get(run)
    children = store.children(run)
    value = {
        **record.to_json(),
        "children": [child.to_json() for child in children],
        "files": store.files(run),
    }
    emit(value, as_json=json, table=lambda: run_tables.show_table(record, children, value["files"]))


def pull(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the ensemble.")],
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Fetch a sweep's ensemble to a folder and verify every file of it.

    Example: ensgan pull latest -o ensemble/
    """
    from ensgan.ensemble import pull as pull_ensemble
    from ensgan.outputs import claim_folder

    claim_folder(output)
    store, run_id = find(run, uri, storage)
    ensemble = pull_ensemble(store, run_id, output)
    value = {"run_id": run_id, "folder": str(output), **run_tables.description(ensemble)}
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

    with tempfile.TemporaryDirectory(prefix="ensgan-verify-") as folder:
        if Path(source).is_dir():
            ensemble = load_ensemble(source)
        else:
            store, run_id = find(source, uri, storage)
            ensemble = pull_ensemble(store, run_id, Path(folder) / "ensemble")
        unlisted = unlisted_files(ensemble.folder, ensemble.manifest)
        value = run_tables.verified(ensemble, unlisted)
    if unlisted:
        warn(f"not listed in the manifest and never opened: {', '.join(unlisted[:5])}")
    emit(value, as_json=json, table=lambda: lines(value))


def compare(
    run: Annotated[
        list[str], typer.Argument(metavar="RUN RUN…", help=f"Which runs, each {RUN_HELP}.")
    ],
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Set runs side by side: the settings that differ, all scores, the members they share.

    Example: ensgan compare quickstart latest
    """
    from ensgan.store import find_run

    if len(run) < 2:
        raise InputError("name at least two runs to compare")
    store = _opened(uri, storage)
    value = run_tables.comparison([store.get(find_run(store, name)) for name in run])
    emit(value, as_json=json, table=lambda: run_tables.comparison_table(value))


def promote(
    run: RunArgument,
    name: Annotated[str | None, typer.Option(help="Model name.  [default: ensgan-DATASET]")] = None,
    alias: Annotated[str, typer.Option(help="Alias to give it.")] = "champion",
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Register a sweep's ensemble in MLflow's model registry under an alias.

    Example: ensgan promote quickstart --alias champion
    """
    from ensgan.ensemble.pyfunc import LOADER
    from ensgan.store import promote as promote_run

    store, run = find(run, uri, storage)
    model = name or f"ensgan-{run_tables.summary(store.get(run))['dataset'] or 'ensemble'}"
    version = promote_run(store, run, name=model, alias=alias, loader=LOADER)
    value = {"model": model, "version": version, "alias": alias, "use": f"models:/{model}@{alias}"}
    emit(value, as_json=json, table=lambda: lines(value))


def sync(
    name: RunArgument,
    storage: StorageOption = None,
    json: JsonOption = False,
) -> None:
    """Record a sweep that the tracking store missed; harmless when nothing is missing.

    Example: ensgan sync quickstart
    """
    from ensgan.launch.sweep import sync_sweep

    run_id = sync_sweep(name, storage=storage)
    emit(
        {"name": name, "run_id": run_id},
        as_json=json,
        table=lambda: f"sweep '{name}' is recorded as run {run_id}",
    )
