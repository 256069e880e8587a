"""Pages: MLflow's, and the report of a sweep."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ensgan.cli import runs
from ensgan.cli.output import ForceOption, JsonOption, emit, lines, note, warn
from ensgan.errors import InputError
from ensgan.files import write_bytes

HERE = "http://127.0.0.1:"
"""Beginning of the addresses of pages that this machine serves."""


def ui(
    run: Annotated[
        str, typer.Argument(help=f"Which run to open: {runs.RUN_HELP}.", show_default=False)
    ] = "latest",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    browser: Annotated[
        bool, typer.Option(help="Open a browser too, where there is a screen.")
    ] = True,
    storage: runs.StorageOption = None,
    uri: runs.UriOption = None,
) -> None:
    """Open the MLflow pages of the recorded sweeps on this machine; Ctrl-C ends them.

    Example: ensgan ui quickstart --port 5001
    """
    from ensgan.report.views import REPORT
    from ensgan.store import find_run

    store = runs.open_recorded(uri, storage)
    if run == "latest" and not store.find():
        raise InputError(
            f"there is nothing to show in {store.uri}: run a sweep first, or name another --storage"
        )
    run_id = find_run(store, run)

    def say(address: str) -> None:
        places = {"all runs": store.list_page(run_id), store.get(run_id).name: store.page(run_id)}
        if REPORT in store.files(run_id):
            places["its report"] = store.page(run_id, REPORT)
        for label, place in places.items():
            typer.echo(f"{label}: {address}/{place}")
        if not address.startswith(HERE):
            return
        typer.echo("Ctrl-C ends the pages")
        if browser and _has_screen():
            webbrowser.open(f"{address}/{store.page(run_id)}")

    note("starting MLflow, which takes some seconds …")
    raise typer.Exit(store.serve_pages(port, say))


def _has_screen() -> bool:
    """Whether a browser would have somewhere to show itself, other than this terminal."""
    names = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in names)


def report(
    run: runs.RunArgument,
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
    force: ForceOption = False,
    storage: runs.StorageOption = None,
    uri: runs.UriOption = None,
    json: JsonOption = False,
) -> None:
    """Write a sweep's report: one HTML file that needs no network.

    It shows what was run, the front, the overlap map, the members with their images, the selected
    ensemble and why, the downstream test, memorisation, environment and licences. No real image
    is in it unless --show-real is given.

    Example: ensgan report quickstart -o report.html
    """
    from ensgan.outputs import claim_output
    from ensgan.report.content import collect
    from ensgan.report.page import render
    from ensgan.report.views import log_report
    from ensgan.store import default_storage

    if (Path(run) / "ensemble.json").is_file():
        raise InputError(
            f"{run} is an ensemble, and reports are of sweeps: its card is "
            f"{Path(run) / 'README.md'}; name the sweep, {runs.RUN_HELP}"
        )
    if output.suffix not in (".html", ".htm"):
        raise InputError(f"'{output}' is no HTML file: name it report.html, for example")
    if log and show_real:
        raise InputError("--log would put real images into the tracking store: drop --show-real")
    claim_output(output, force=force)
    store, run = runs.find(run, uri, storage)
    real_from = (storage or default_storage()).resolve() if show_real else None
    content = collect(store, run, real_from=real_from)
    page = render(content).encode()
    write_bytes(output, page)
    if log:
        log_report(store, content, page)
    if show_real:
        warn(f"{output} shows real training images: treat it as you treat the data set")
    value = {"run_id": run, "report": str(output), "bytes": len(page), "real_images": show_real}
    emit(value, as_json=json, table=lambda: lines(value))
