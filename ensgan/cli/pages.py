"""Pages about recorded sweeps: MLflow's, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensgan.cli.output import JsonOption, emit, warn
from ensgan.cli.run_tables import lines
from ensgan.cli.runs import RunArgument, StorageOption, UriOption, find
from ensgan.errors import InputError


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
    run: RunArgument,
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
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Write a sweep's report: one HTML file that needs no network.

    It shows what was run, the front, the overlap map, the members with their images, the selected
    ensemble and why, the downstream test, memorisation, environment and licences. No real image
    is in it unless --show-real is given.

    Example: ensgan report quickstart -o report.html
    """
    from ensgan.files import write_bytes
    from ensgan.outputs import claim_output, nothing_there
    from ensgan.recording.views import log_report
    from ensgan.report.content import collect
    from ensgan.report.page import render
    from ensgan.store import default_storage

    if output.suffix not in (".html", ".htm"):
        raise InputError(f"'{output}' is no HTML file: name it report.html, for example")
    if log and show_real:
        raise InputError("--log would put real images into the tracking store: drop --show-real")
    claim_output(output, is_ours=nothing_there, force=force)
    store, run = find(run, uri, storage)
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
