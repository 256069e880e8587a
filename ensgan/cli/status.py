"""``ensgan status``, and the live table of a sweep."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ensgan.cli.output import FittingTable, JsonOption, PlainConsole, emit, is_quiet, warn
from ensgan.cli.runs import RunArgument, StorageOption
from ensgan.errors import DataError
from ensgan.sweep.events import Event, OnEvent
from ensgan.sweep.folder import SweepFolder, find_sweep
from ensgan.sweep.live.status import sweep_status
from ensgan.text import counted, duration, hide_credentials, one_line

QUIET_KINDS = {"progress", "plan", "folder", "held"}
"""Events that are too frequent for a log, or meant for programs only."""
COLUMNS = ("last member", "step", "steps/s", "left", "node", "GPU", "Intra-d", "labels", "health")
SPARE = ("GPU", "steps/s", "labels", "node", "health", "Intra-d", "left")
"""Columns that a narrow terminal leaves out, in this order."""
ORDER = {"running": 0, "done": 3, "waiting": 2}
"""Order of rows by state; other states come right after ``running``."""
DOING = {
    "train": ("training", ""),
    "score": ("scoring", "sets and pairs"),
    "search": ("searching", "ensembles"),
    "select": ("selecting", "classifiers"),
    "evaluate": ("evaluating", "classifiers"),
    "record": ("recording", ""),
}
"""A stage in words, and what its progress counts."""
SENTENCES = {
    "stage start": "{stage} …",
    "stage done": "{stage} done in {seconds:.1f} s",
    "member": "{member} ({done}/{of})  Intra-d {intra_d:.3f}{health}",
    "strategy": "{strategy} (repeat {repeat}): AUC {metrics[auc]:.3f}, accuracy "
    "{metrics[accuracy]:.3f}",
    "lost": "{gan} lost its {kind} after step {step}: starting it again ({reason})",
    "stopped": "{gan} stopped at {members} of {of} members: {reason}",
    "budget": "all trials have taken {hours:.4g} hours of the budget",
    "asked": "asked by {by} to {verb}: {message}",
    "retried": "{gan} is tried again",
    "failed": "FAILED {gan}: {error}",
    "warning": "warning: {message}",
}
"""Events as lines of a log, by kind."""
FRAME = 8
"""Lines of the view besides GANs: title, borders, and the line that counts hidden GANs."""


@contextmanager
def watching(as_json: bool) -> Iterator[OnEvent]:
    """A listener that shows events as a live table, as log lines, or as JSON lines."""
    if as_json:
        yield _json_lines(sys.stdout)
        return
    if is_quiet():
        yield lambda event: None if event.kind != "warning" else warn(event.fields["message"])
        return
    console = PlainConsole(stderr=True)
    if not console.is_terminal:
        yield _plain_lines(sys.stderr)
        return
    view = _LiveView(console)
    with Live(console=console, get_renderable=view.render, refresh_per_second=2) as live:
        yield view.listener(lambda line: live.console.print(line))


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
    """One event as one line without terminal codes, as it may contain text of other users."""
    return hide_credentials(one_line(_words(event)))


def _words(event: Event) -> str:
    kind, fields = event.kind, dict(event.fields)
    if kind == "stage":
        kind = f"stage {fields['state']}"
    elif kind == "waits":
        return f"waiting for {fields['for']}" if fields["for"] else "waiting no longer"
    elif kind == "member":
        fields["health"] = "  health: " * bool(fields["health"]) + ", ".join(fields["health"])
    elif kind == "asked" and fields["gan"]:
        fields["verb"] += f" {fields['gan']}"
    if kind in SENTENCES:
        return SENTENCES[kind].format(**fields)
    return f"{kind}: " + ", ".join(f"{key} {value}" for key, value in fields.items())


class _LiveView:
    """What ``ensgan status`` shows, of the sweep that runs in this process."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.folder: SweepFolder | None = None
        self.last = ""
        self._made = 0.0
        self._shown: RenderableType = Text("")

    def listener(self, print_line: Callable[[str], None]) -> OnEvent:
        """A listener that prints events that are not about progress."""

        def listen(event: Event) -> None:
            fields = event.fields
            if event.kind == "folder":
                self.folder = SweepFolder(Path(fields["path"]))
            elif event.kind == "progress" and "gan" in fields:
                self.last = f"{fields['gan']}: step {fields['step']:,} of {fields['steps']:,}"
            elif event.kind == "stage" and fields["state"] == "start":
                self.last = fields["stage"]
            elif event.kind not in QUIET_KINDS:
                print_line(sentence(event))

        return listen

    def render(self) -> RenderableType:
        """The view now: the folder's files are read once a second."""
        if self.folder is None or not self.folder.has_begun:
            return Text(self.last)
        if time.monotonic() - self._made > 1:
            self._made = time.monotonic()
            with contextlib.suppress(DataError):  # just being replaced, or damaged
                self._shown = status_view(sweep_status(self.folder), self.console.height - 2)
        return self._shown


def status_view(value: Mapping[str, Any], height: int | None = None) -> RenderableType:
    """A sweep's state in words, then one line per GAN, what runs first.

    Args:
        value: see :func:`ensgan.sweep.live.status.sweep_status`.
        height: of the terminal; GANs that do not fit are counted. None shows all.
    """
    gans = value["gans"]
    done = sum(row["state"] == "done" for row in gans)
    formats = sorted({row["precision"] for row in gans} - {None})
    precision = f", in {' and '.join(formats)}" if formats else ""
    title = (
        f"{value['sweep']}: {' '.join([value['state'], *_stage_words(value)])}{precision}\n"
        f"{value['members']} of {counted(value['planned'], 'member')}, "
        f"{done} of {counted(len(gans), 'GAN')}, {', '.join(_time_words(value))}"
    )
    below = [f"FAILED {gan}: {reason}" for gan, reason in value["failed"].items()]
    below += [
        f"{gan} was lost and started again: {counts['process']} × its process, "
        f"{counts['node']} × its node"
        for gan, counts in value["losses"].items()
    ]
    below += value["notes"]
    if value["state"] == "interrupted":
        below.append("No process runs it: the same `ensgan sweep` command goes on from here.")
    if value["run_id"]:
        below.append(f"MLflow run ID: {value['run_id']}")
    rows = sorted(gans, key=lambda row: ORDER.get(row["state"], 1))
    room = len(rows) if height is None else max(3, height - len(below) - FRAME)
    hidden = Counter(row["state"] for row in rows[room:])
    if hidden:
        more = ", ".join(f"{count} {state}" for state, count in hidden.items())
        below.insert(0, f"and {more} (--json and a pipe show all)")
    return Group(Text(title), gan_table(rows[:room]), Text("\n".join(below)))


def _stage_words(value: Mapping[str, Any]) -> list[str]:
    if not value["stage"]:
        return []
    doing, unit = DOING.get(value["stage"], (value["stage"], ""))
    counted = f" {value['done']:,} of {value['of']:,} {unit}" if value["of"] else ""
    host = f" (driver on {value['host']})" if value["host"] else ""
    waits = f", waiting for {value['waits']}" if value["waits"] else ""
    return [f"– {doing}{counted.rstrip()}{waits}{host}"]


def _time_words(value: Mapping[str, Any]) -> list[str]:
    words = [f"begun {duration(value['seconds'])} ago"]
    if value["state"] in ("finished", "failed"):
        words = [f"took {duration(value['seconds'])}"]
    unit = f"{value['hours_of']}-hours"
    words.append(f"{value['hours']:.3g} {unit} taken")
    if value["hours_left"] is not None:
        words.append(f"about {value['hours_left']:.3g} to come")
    if value["eta_seconds"] is not None:
        doing, _ = DOING.get(value["stage"], (value["stage"], ""))
        of_stage = f"{duration(value['eta_seconds'])} of {doing}"
        whole = value["eta_total_seconds"]
        words.append(
            f"about {of_stage} left"
            if whole is None
            else f"about {duration(whole)} left ({of_stage})"
        )
    return words


def gan_table(rows: Sequence[Mapping[str, Any]]) -> FittingTable:
    """One line per GAN: how far it is, how fast, where, and how good its last member was.

    The node is shown when there are several, the GPU's memory when there is one.
    """
    hidden = {
        "node": len({row["node"] for row in rows} - {None}) < 2,
        "GPU": not any(row["gpu_memory_bytes"] for row in rows),
        "labels": all(row["label_consistency"] is None for row in rows),
    }
    shown = [column for column in COLUMNS if not hidden.get(column)]
    table = FittingTable(*shown, spare=SPARE, wraps=("health",))
    for row in rows:
        cells = _cells(row)
        table.add_row(*(cells[column] for column in shown))
    return table


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """The cells of a GAN, by column."""
    rate, memory, state = row["steps_per_second"], row["gpu_memory_bytes"], row["state"]
    left, intra_d, labels = row["eta_seconds"], row["intra_d"], row["label_consistency"]
    return {
        "last member": row["member"] or row["gan"],
        "step": f"{row['step']:,}/{row['steps']:,}",
        "steps/s": f"{rate:.2f}" if rate else "",
        "left": duration(left) if state == "running" and left is not None else state,
        "node": row["node"] or "",
        "GPU": f"{memory / 2**30:.1f} GB" if memory else "",
        "Intra-d": f"{intra_d:.3f}" if intra_d is not None else "",
        "labels": f"{labels:.0%}" if labels is not None else "",
        "health": ", ".join(row["health"]),
    }


WATCH_SECONDS = 2.0


def status(
    name: RunArgument = "latest",
    storage: StorageOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep showing it until the sweep ends.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far a sweep is: every GAN's step, pace, node, memory, last Intra-d and health.

    Example: ensgan status quickstart
    """
    from ensgan.store import default_storage

    folder = find_sweep(name, (storage or default_storage()).resolve())
    value = sweep_status(folder)
    console = PlainConsole()
    if not (watch and console.is_terminal and not as_json):
        height = console.height - 2 if console.is_terminal else None
        emit(value, as_json=as_json, table=lambda: status_view(value, height))
        return
    with Live(status_view(value, console.height - 2), console=console) as live:
        while value["state"] in ("running", "paused"):
            time.sleep(WATCH_SECONDS)
            value = sweep_status(folder)
            live.update(status_view(value, console.height - 2))
