"""``ensgan status``: how far a sweep is, from another shell."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from ensgan.cli.live import duration, gan_table
from ensgan.cli.output import JsonOption, PlainConsole, emit
from ensgan.cli.sweep import StorageOption

WATCH_SECONDS = 2.0


def status(
    name: Annotated[str, typer.Argument(help="Name of a sweep, or the ID of a run of it.")],
    storage: StorageOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on showing it until the sweep ends.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far a sweep is: every GAN's step, pace, node, memory, last Intra-d and health.

    Example: ensgan status quickstart
    """
    from ensgan.store import default_storage
    from ensgan.sweep.folder import find_sweep
    from ensgan.sweep.status import sweep_status

    folder = find_sweep(name, (storage or default_storage()).resolve())
    value = sweep_status(folder)
    console = PlainConsole()
    if not (watch and console.is_terminal and not as_json):
        emit(value, as_json=as_json, table=lambda: _shown(value))
        return
    with Live(_shown(value), console=console) as live:
        while value["state"] == "running":
            time.sleep(WATCH_SECONDS)
            value = sweep_status(folder)
            live.update(_shown(value))


def _shown(value: dict[str, Any]) -> RenderableType:
    title = (
        f"{value['sweep']}: {value['state']}, {value['members']} of {value['planned']} members, "
        f"{duration(value['seconds'])}"
    )
    lines = [f"FAILED {gan}: {reason}" for gan, reason in value["failed"].items()]
    lines += [
        f"{gan} was lost and started again: {counts['process']} × its process, "
        f"{counts['node']} × its node"
        for gan, counts in value["losses"].items()
    ]
    lines += value["notes"]
    if value["state"] == "interrupted":
        lines.append("No process runs it: the same `ensgan sweep` command goes on from here.")
    if value["run_id"]:
        lines.append(f"MLflow run ID: {value['run_id']}")
    return Group(gan_table(title, value["gans"]), Text("\n".join(lines)))
