"""Commands on recorded sweeps and their ensembles: find, look at, fetch, verify, use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from ensgan.cli.output import JsonOption, emit, note, warn
from ensgan.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ensgan.ensemble import Ensemble
    from ensgan.store import RunRecord

StorageOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Folder of sweeps and results.  [default: $ENSGAN_STORAGE or ensgan-runs]"),
]
UriOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="MLflow address.  [default: $MLFLOW_TRACKING_URI or SQLite in the storage]"),
]
SourceArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN|DIR", help="Run ID of a sweep, or an ensemble folder.")
]
_SUMMARY = ("intra_d", "inter_d", "density", "coverage")


def runs(
    sort: Annotated[
        str,
        typer.Option(
            help="Field to sort by: started, name, status, or a metric or parameter such as "
            "intra_d, inter_d, members, dataset; a leading '-' puts the greatest first."
        ),
    ] = "-started",
    dataset: Annotated[str | None, typer.Option(help="Only sweeps on this data set.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many sweeps.")] = 100,
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """List the recorded sweeps.

    Example: ensgan runs --dataset pneumoniamnist --sort -intra_d
    """
    from ensgan.store import open_store

    store = open_store(uri, storage)
    params = {"dataset": dataset} if dataset else {}
    found = [_summary(record) for record in store.find(params=params, order=sort, limit=limit)]
    if not found:
        note(f"no sweeps are recorded in {store.uri}")
    emit({"runs": found}, as_json=json, table=lambda: _runs_table(found))


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
    emit(value, as_json=json, table=lambda: _show_table(record, children, value["files"]))


def pull(
    run: Annotated[str, typer.Argument(help="Run ID of a sweep.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the ensemble.")],
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Fetch a sweep's ensemble to a folder and verify every file of it.

    Example: ensgan pull 3f2a9c… -o ensemble/
    """
    from ensgan.ensemble import pull as pull_ensemble
    from ensgan.store import open_store

    ensemble = pull_ensemble(open_store(uri, storage), run, output)
    value = {"run_id": run, "folder": str(output), **_description(ensemble)}
    emit(value, as_json=json, table=lambda: _lines(value))


def sample(
    source: SourceArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A new .npz file, or a new folder for PNG files."),
    ],
    n: Annotated[int | None, typer.Option("-n", help="How many images.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Classes: one an image ('0,1,1'), or how many of each ('0:10,1:20')."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal images.")] = 0,
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Make images with an ensemble.

    Example: ensgan sample ensemble/ -n 64 --seed 1 -o samples.npz
    """
    from ensgan.ensemble import load_ensemble

    wanted = None if labels is None else parse_labels(labels, n)
    count = n if wanted is None else len(wanted)
    if count is None:
        raise InputError("say how many images: -n 64, or --labels 0:32,1:32")
    if output.suffix not in ("", ".npz"):
        raise InputError(f"'{output}' is neither an .npz file nor a folder: name one of them")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise InputError(f"{output} exists already: name a new file or folder")
    ensemble = load_ensemble(source, storage=storage, uri=uri)
    if output.suffix == ".npz":
        samples = ensemble.sample(count, wanted, seed)
        samples.save(output)
    else:
        from ensgan.ensemble.export import save_png

        samples = ensemble.sample(count, wanted, seed)
        save_png(output, samples, ensemble.class_names)
    makers = [] if samples.members is None else samples.members.tolist()
    made = {name: makers.count(index) for index, name in enumerate(samples.member_names)}
    value = {"output": str(output), "images": count, "seed": seed, "key": samples.key, "by": made}
    emit(value, as_json=json, table=lambda: _lines(value))


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
    from ensgan.store import open_store

    if Path(source).is_dir():
        ensemble = load_ensemble(source)
        unlisted = unlisted_files(ensemble.folder, ensemble.manifest)
        value = _verified(ensemble, unlisted)
    else:
        with tempfile.TemporaryDirectory(prefix="ensgan-verify-") as folder:
            ensemble = pull_ensemble(open_store(uri, storage), source, Path(folder) / "ensemble")
            unlisted = unlisted_files(ensemble.folder, ensemble.manifest)
            value = _verified(ensemble, unlisted)
    if unlisted:
        warn(f"not listed in the manifest and never opened: {', '.join(unlisted[:5])}")
    emit(value, as_json=json, table=lambda: _lines(value))


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    storage: StorageOption = None,
    uri: UriOption = None,
) -> None:
    """Open the MLflow pages of the recorded sweeps on this machine; Ctrl-C ends them.

    Example: ensgan ui --port 5001
    """
    from ensgan.store import open_store
    from ensgan.store.serving import serve_pages

    store = open_store(uri, storage)
    if store.uri.startswith("http"):
        typer.echo(f"The pages are at {store.uri}")
        return
    typer.echo(f"Open http://127.0.0.1:{port} (Ctrl-C to stop)")
    raise typer.Exit(serve_pages(store, port))


def parse_labels(text: str, n: int | None) -> list[int]:
    """Labels from ``0,1,1`` or ``0:10,1:20``.

    Raises:
        InputError: the text has another form, or gives another number of labels than ``n``.
    """
    labels: list[int] = []
    for part in text.split(","):
        label, colon, times = part.strip().partition(":")
        if not label.isdigit() or (colon and not times.isdigit()):
            raise InputError(
                f"'{part}' is no label: write classes as 0,1,1 or as class:how-many, 0:10,1:20"
            )
        if colon and int(times) > 10_000_000:
            raise InputError(f"'{part}' asks for more than 10 million images at once")
        labels += [int(label)] * (int(times) if colon else 1)
    if n is not None and len(labels) != n:
        raise InputError(f"--labels names {len(labels)} images but -n asks for {n}: drop one")
    return labels


def _summary(record: RunRecord) -> dict[str, Any]:
    members = record.params.get("members", record.tags.get("ensgan.members", ""))
    selected = record.tags.get("ensgan.selected", "")
    return {
        "run_id": record.run_id,
        "name": record.name,
        "status": record.status,
        "started": record.started.isoformat(),
        "dataset": record.params.get("dataset", record.tags.get("ensgan.dataset", "")),
        "members": int(members) if members.isdigit() else None,
        "selected": selected.split(",") if selected else [],
        **{name: _finite(record.metrics.get(name)) for name in _SUMMARY},
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _description(ensemble: Ensemble) -> dict[str, Any]:
    shape = ensemble.shape
    return {
        "members": dict(zip(ensemble.member_names, ensemble.weights, strict=True)),
        "image": [shape.channels, shape.size, shape.size],
        "classes": list(ensemble.class_names),
        "metrics": dict(ensemble.manifest.metrics),
    }


def _verified(ensemble: Ensemble, unlisted: Sequence[str]) -> dict[str, Any]:
    files = ensemble.manifest.files
    return {
        "verified": True,
        "files": len(files) + 1,
        "bytes": sum(file.bytes for file in files.values()),
        "members": list(ensemble.member_names),
        "unlisted": list(unlisted),
    }


def _runs_table(found: Sequence[dict[str, Any]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("run", "name", "dataset", "members", "Intra-d", "Inter-d", "selected", "status")
    for run in found:
        table.add_row(
            run["run_id"],
            escape(run["name"]),
            escape(run["dataset"]),
            _text(run["members"]),
            _text(run["intra_d"]),
            _text(run["inter_d"]),
            escape(", ".join(run["selected"])),
            run["status"],
        )
    return table


def _show_table(
    record: RunRecord, children: Sequence[RunRecord], files: dict[str, int]
) -> RenderableType:
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    head = Table.grid(padding=(0, 2))
    for key, value in {
        "run": record.run_id,
        "name": record.name,
        "status": record.status,
        "started": f"{record.started:%Y-%m-%d %H:%M:%S} UTC",
        **record.params,
        **{name: _text(value) for name, value in record.metrics.items()},
        **record.tags,
    }.items():
        head.add_row(escape(key), escape(value))
    below = Table("kind", "name", "run", "Intra-d", "status", title="runs below")
    for child in children:
        intra_d = _text(child.metrics.get("intra_d"))
        below.add_row(child.kind, escape(child.name), child.run_id, intra_d, child.status)
    stored = Table("file", "bytes", title="files")
    for name, size in files.items():
        stored.add_row(escape(name), str(size))
    return Group(head, *(table for table in (below, stored) if table.row_count))


def _lines(value: dict[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for key, entry in value.items():
        if isinstance(entry, dict):
            entry = ", ".join(f"{name} {_text(part)}" for name, part in entry.items())
        elif isinstance(entry, list):
            entry = ", ".join(str(part) for part in entry)
        table.add_row(key, escape(str(entry)))
    return table


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
