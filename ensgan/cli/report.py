"""``ensgan report``: a recorded sweep as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensgan.cli.output import JsonOption, emit, warn
from ensgan.cli.run_tables import lines
from ensgan.cli.runs import StorageOption, UriOption
from ensgan.errors import InputError


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
    with path.open("rb") as stream:
        return b"ensgan report</title>" in stream.read(1 << 16)
