"""What commands print: one JSON object for machines, tables and progress for people."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ensgan.errors import InputError

JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")
]
ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total)."""

_messages = Console(stderr=True)


def emit(value: Mapping[str, Any], *, as_json: bool, table: Callable[[], RenderableType]) -> None:
    """Print the result of a command: ``value`` as one JSON line, or ``table()`` for people."""
    if as_json:
        typer.echo(json.dumps(value, allow_nan=False))
    else:
        shown = table()
        # Sentences, commands and files to copy keep their lines; tables fit the terminal.
        Console().print(shown, soft_wrap=isinstance(shown, str | Text))


def note(message: str) -> None:
    """Say something to a person on stderr; quiet when stderr is not a terminal."""
    if _messages.is_terminal:
        _messages.print(message)


def warn(message: str) -> None:
    """Say something on stderr that must be seen, terminal or not."""
    _messages.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)


def check_output(*paths: Path | None) -> None:
    """Refuse, before any work, files that cannot be written when it is done.

    Raises:
        InputError: a folder, or a file below one that cannot be written to.
    """
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder; name a file in it")
        above = next(each for each in path.absolute().parents if each.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise InputError(
                f"cannot write {path}: {above} is no folder that you may write to; name another "
                "place"
            )


class _RateColumn(ProgressColumn):
    """How many units a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Nothing until there is something to tell."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g} {self.unit}/s" if speed and self.unit else "")


@contextmanager
def progress(label: str, unit: str = "") -> Iterator[ReportProgress]:
    """A progress bar on stderr with an estimate of the time left; silent without a terminal."""
    if not _messages.is_terminal:
        yield lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _RateColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_messages, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
