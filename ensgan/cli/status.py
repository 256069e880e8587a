"""``ensgan status``, and the live table of a sweep."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, TextIO

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ensgan.cli.output import JsonOption, PlainConsole, emit
from ensgan.cli.sweep import StorageOption
from ensgan.sweep.events import Event, OnEvent

QUIET_KINDS = {"progress"}
"""Too frequent to be lines of a log."""
COLUMNS = ("last member", "step", "steps/s", "left", "node", "GPU", "Intra-d", "health")


@contextmanager
def watching(as_json: bool) -> Iterator[OnEvent]:
    """What passes events on: to a live table, to a log, or as JSON to a program that reads."""
    if as_json:
        yield _json_lines(sys.stdout)
        return
    console = PlainConsole(stderr=True)
    if not console.is_terminal:
        yield _plain_lines(sys.stderr)
        return
    table = _LiveTable()
    with Live(console=console, get_renderable=table.render, refresh_per_second=2) as live:
        yield table.listener(lambda line: live.console.print(line))


def _json_lines(stream: TextIO) -> OnEvent:
    def write(event: Event) -> None:
        stream.write(json.dumps(event.to_json(), default=str) + "\n")
        stream.flush()

    return write


def _plain_lines(stream: TextIO) -> OnEvent:
    def write(event: Event) -> None:
        if event.kind not in QUIET_KINDS:
            stream.write(f"{time.strftime('%H:%M:%S')} {sentence(event)}\n")
            stream.flush()

    return write


def sentence(event: Event) -> str:
    """One event as one line."""
    fields = event.fields
    if event.kind == "stage":
        if fields["state"] == "start":
            return f"{fields['stage']} …"
        return f"{fields['stage']} done in {fields['seconds']:.1f} s"
    if event.kind == "member":
        health = f"  health: {', '.join(fields['health'])}" if fields["health"] else ""
        return (
            f"{fields['member']} ({fields['done']}/{fields['of']})  "
            f"Intra-d {fields['intra_d']:.3f}{health}"
        )
    if event.kind == "strategy":
        metrics = fields["metrics"]
        return (
            f"{fields['strategy']} (repeat {fields['repeat']}): "
            f"AUC {metrics['auc']:.3f}, accuracy {metrics['accuracy']:.3f}"
        )
    if event.kind == "lost":
        return (
            f"{fields['gan']} lost its {fields['kind']} after step {fields['step']}: starting it "
            f"again ({fields['reason']})"
        )
    if event.kind == "stopped":
        return (
            f"{fields['gan']} stopped at {fields['members']} of {fields['of']} members: "
            f"{fields['reason']}"
        )
    if event.kind == "budget":
        return f"all trials have taken {fields['hours']:.4g} hours of the budget"
    if event.kind == "failed":
        return f"FAILED {fields['gan']}: {fields['error']}"
    if event.kind == "warning":
        return f"warning: {fields['message']}"
    return f"{event.kind}: " + ", ".join(f"{key} {value}" for key, value in fields.items())


class _LiveTable:
    """The state of every GAN, from the events so far."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.stage = ""

    def listener(self, print_line: Callable[[str], None]) -> OnEvent:
        """What feeds events to the table, and prints those that are not about progress."""

        def listen(event: Event) -> None:
            fields = event.fields
            if event.kind == "progress" and "gan" in fields:
                self._advance(self.rows.setdefault(fields["gan"], {"gan": fields["gan"]}), fields)
            elif event.kind == "progress":
                self.stage = f"{fields['stage']} {fields['done']}/{fields['of']}"
            elif event.kind == "member":
                gan = fields["member"].partition("@")[0]
                self.rows.setdefault(gan, {"gan": gan}).update(
                    member=fields["member"], intra_d=fields["intra_d"], health=fields["health"]
                )
            elif event.kind == "failed" and fields["gan"] in self.rows:
                self.rows[fields["gan"]]["state"] = "failed"
                print_line(sentence(event))
            elif event.kind == "stage":
                self.stage = fields["stage"]
                if fields["state"] == "done":
                    print_line(sentence(event))
            else:
                print_line(sentence(event))

        return listen

    @staticmethod
    def _advance(row: dict[str, Any], fields: Mapping[str, Any]) -> None:
        """Note the step of a GAN, its pace (since the first step seen here) and what is left."""
        first_step, first_seconds = row.setdefault("first", (fields["step"], fields["seconds"]))
        row.update(fields, state="running")
        elapsed = fields["seconds"] - first_seconds
        if elapsed > 0 and not fields.get("steps_per_second"):
            row["steps_per_second"] = (fields["step"] - first_step) / elapsed
        rate = row.get("steps_per_second")
        row["eta_seconds"] = (row["steps"] - row["step"]) / rate if rate else None

    def render(self) -> Table:
        """The table now."""
        return gan_table(self.stage, self.rows.values())


def gan_table(title: str, rows: Iterable[Mapping[str, Any]]) -> Table:
    """One line per GAN: how far it is, how fast, where, and how good its last member was.

    The node is shown when there are several, the GPU's memory when there is one; without
    both, 80 columns hold the table.
    """
    rows = list(rows)
    hidden = set()
    if len({row.get("node") for row in rows if row.get("node")}) < 2:
        hidden.add("node")
    if not any(row.get("gpu_memory_bytes") for row in rows):
        hidden.add("GPU")
    shown = [column for column in COLUMNS if column not in hidden]
    table = Table(title=title, title_justify="left")
    for column in shown:
        left = column in ("last member", "node", "health")
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "health")
    for row in rows:
        cells = _cells(row)
        table.add_row(*(cells[column] for column in shown))
    return table


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """The cells of a GAN, by column."""
    rate, memory = row.get("steps_per_second"), row.get("gpu_memory_bytes")
    eta, intra_d = row.get("eta_seconds"), row.get("intra_d")
    health = row.get("health") or ()
    warnings = health if isinstance(health, str) else ", ".join(health)
    state = row.get("state", "running")
    return {
        "last member": row.get("member") or row["gan"],
        "step": f"{row.get('step', 0):,}/{row.get('steps', 0):,}",
        "steps/s": f"{rate:.2f}" if rate else "",
        "left": duration(eta) if eta is not None else "",
        "node": row.get("node") or "",
        "GPU": f"{memory / 2**30:.1f} GB" if memory else "",
        "Intra-d": f"{intra_d:.3f}" if intra_d is not None else "",
        "health": warnings if state in ("running", "done") else f"{state} {warnings}".strip(),
    }


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would choose."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


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
