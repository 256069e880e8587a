"""What commands share and print: one JSON object for machines, tables and progress for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ensgan.outputs import claim_output
from ensgan.text import hide_credentials, printable

JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")
]
JsonLinesOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON object per event on stdout; the last holds the result."
    ),
]
AddressOption: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Ray: 'local' starts it here; 'auto' or HOST:PORT joins a cluster from one of its "
        "nodes; 'none' uses no Ray."
    ),
]
OpenClusterOption: TypeAlias = Annotated[
    bool, typer.Option("--allow-open-cluster", help="Use a Ray cluster that asks for no token.")
]
ForceOption: TypeAlias = Annotated[
    bool, typer.Option("--force", help="Replace existing files, whatever they hold.")
]
MOST_IMAGES = 10_000_000
"""Images that a command makes at once."""
LARGEST_SIDE = 1024
"""Pixels of an image's side, as in sweep files."""
_PIPE_COLUMNS = 10_000
"""A file or a program that reads gets every line and every column whole."""
ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total)."""


class PlainConsole(Console):
    """A console that shows text as it is: no markup in it is obeyed, no terminal codes get out.

    Names of runs, members and classes come from files and servers of others.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = _PIPE_COLUMNS

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """See :meth:`rich.console.Console.render`; every text that is shown comes by here."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else hide_credentials(printable(segment.text))
            yield Segment(text, segment.style, segment.control)


_messages = PlainConsole(stderr=True)


def emit(value: Mapping[str, Any], *, as_json: bool, table: Callable[[], RenderableType]) -> None:
    """Print the result of a command: ``value`` as one JSON line, or ``table()`` for people."""
    if as_json:
        typer.echo(json.dumps(value, allow_nan=False))
    else:
        shown = table()
        # Sentences, commands and files to copy keep their lines; tables fit the terminal.
        soft_wrap, console = isinstance(shown, str | Text), PlainConsole()
        if console.is_terminal:
            console.print(shown, soft_wrap=soft_wrap, crop=False)
            return
        with console.capture() as capture:
            console.print(shown, soft_wrap=soft_wrap, crop=False)
        lines = capture.get().removesuffix("\n").split("\n")
        # Not typer.echo: where stdout can show ASCII alone it writes UTF-8 nevertheless.
        sys.stdout.write("".join(f"{line.rstrip(' ')}\n" for line in lines))


def is_quiet() -> bool:
    """Whether only results, warnings and errors are to be shown (``-q``, ``ENSGAN_LOG``)."""
    return os.environ.get("ENSGAN_LOG") == "quiet"


def note(message: str) -> None:
    """Say something to a person on stderr; quiet when stderr is not a terminal, or asked to be."""
    if _messages.is_terminal and not is_quiet():
        _messages.print(message, soft_wrap=True)


def warn(message: str) -> None:
    """Say something on stderr that must be seen, terminal or not."""
    _messages.print(f"warning: {message}", style="yellow", soft_wrap=True)


def check_outputs(
    *claims: tuple[Path | None, Callable[[Path], bool]],
    inputs: Iterable[Path | None] = (),
    force: bool = False,
) -> None:
    """Refuse, before any work, outputs that would destroy something; see :func:`claim_output`.

    Args:
        claims: every file that the command writes (None for those not asked for), and whether one
            that is there is its own.
        inputs: every file and folder that it reads.
        force: replace files of others.

    Raises:
        InputError: one of them cannot be written, is read, or is named twice.
    """
    inputs, paths = list(inputs), [path for path, _ in claims]
    for place, (path, is_ours) in enumerate(claims):
        if path is not None:
            claim_output(path, inputs=inputs, outputs=paths[:place], is_ours=is_ours, force=force)


@contextmanager
def progress(label: str, unit: str = "") -> Iterator[ReportProgress]:
    """A progress bar on stderr with an estimate of the time left; silent without a terminal."""
    if not _messages.is_terminal or is_quiet():
        yield lambda done, total: None
        return
    from rich import progress as bars  # late: tables need none

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=_messages, transient=True) as bar:
        task = bar.add_task(label, total=None, rate=unit)

        def report(done: int, total: int) -> None:
            speed = bar.tasks[0].speed if unit else None
            rate = f"{unit} {speed:.3g} {unit}/s" if speed else unit
            bar.update(task, completed=done, total=total, rate=rate)

        yield report
