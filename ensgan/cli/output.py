"""What commands share and print: one JSON object for machines, tables and progress for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Column, Table
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
"""Width for pipes and files, which get every line and every column whole."""
_GAPS = (2, 1)
"""Blanks between columns, where there is room and where there is little."""
_LONGEST_WORD = 32
"""Columns that a word may claim; names may have hundreds."""
ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total)."""


class PlainConsole(Console):
    """A console that prints text as it is, without interpreting markup or terminal codes.

    Names of runs, members and classes may come from other people's files and servers.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = _PIPE_COLUMNS

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """See :meth:`rich.console.Console.render`, through which all printed text passes."""
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
        # Not typer.echo, which writes UTF-8 even where stdout can show only ASCII.
        sys.stdout.write("".join(f"{line.rstrip(' ')}\n" for line in lines))


def is_quiet() -> bool:
    """Whether only results, warnings and errors are to be shown (``-q``, ``ENSGAN_LOG``)."""
    return os.environ.get("ENSGAN_LOG") == "quiet"


def note(message: str) -> None:
    """Print a remark for people on stderr, unless it is no terminal or quiet was asked for."""
    if _messages.is_terminal and not is_quiet():
        _messages.print(message, soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning on stderr, terminal or not."""
    _messages.print(f"warning: {message}", style="yellow", soft_wrap=True)


def check_outputs(
    *claims: tuple[Path | None, Callable[[Path], bool]],
    inputs: Iterable[Path | None] = (),
    force: bool = False,
) -> None:
    """Refuse, before any work, outputs that would destroy something; see :func:`claim_output`.

    Args:
        claims: every file that the command writes (None for those not asked for), each with a
            check whether an existing file was made by this command.
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


class FittingTable:
    """Rows of texts below headings; columns of numbers stand right.

    A terminal that is too narrow for all columns gets those that matter most, whole, and a line
    that names the others.

    Args:
        columns: the headings.
        title: a sentence above the table.
        spare: headings of the columns that can be missed, the first to go first.
        wraps: headings of columns whose words may stand in several lines.
        lined: draw lines between the columns, where there is room.
    """

    def __init__(
        self,
        *columns: str,
        title: str = "",
        spare: Sequence[str] = (),
        wraps: Sequence[str] = (),
        lined: bool = False,
    ) -> None:
        self.columns, self.title = columns, title
        self.spare, self.wraps, self.lined = spare, frozenset(wraps), lined
        self.rows: list[tuple[str | Text, ...]] = []

    def add_row(self, *cells: str | Text) -> None:
        """One cell per column; a name of several lines cannot pass for a row of its own."""
        lines = (" ".join(each.splitlines()) if isinstance(each, str) else each for each in cells)
        self.rows.append(tuple(lines))

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """See rich's protocol of what can be printed."""
        room, left_out = options.max_width, [name for name in self.spare if name in self.columns]
        shown, gone = list(self.columns), 0
        while self._least_width(shown, 1) > room and gone < len(left_out):
            shown.remove(left_out[gone])
            gone += 1
        gap = next((gap for gap in _GAPS if self._least_width(shown, gap) <= room), None)
        if self.title:
            yield Text(self.title)
        lined = self.lined and self._least_width(shown, 3) + 4 <= room
        yield self._table(shown, gap, lined=lined)
        if gone:
            missed = [name for name in self.columns if name in left_out[:gone]]
            yield Text(f"(no room for: {', '.join(missed)})", style="dim")

    def _table(self, shown: Sequence[str], gap: int | None, *, lined: bool) -> Table:
        """The table of some columns; with no gap that suits, words are broken."""
        padding = (0, (gap or 1) - 1, 0, 0)
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
        if lined:
            table = Table()
        for name in shown:
            whole = gap is not None and name not in self.wraps
            table.add_column(
                Text(name),
                justify="right" if self._holds_numbers(name) else "left",
                no_wrap=whole,
                overflow="fold",
            )
        places = [self.columns.index(name) for name in shown]
        for row in self.rows:
            table.add_row(*(row[place] for place in places))
        return table

    def _cells(self, name: str) -> list[str]:
        place = self.columns.index(name)
        return [str(row[place]) for row in self.rows]

    def _least_width(self, shown: Sequence[str], gap: int) -> int:
        """Columns of the terminal below which something would be cut."""
        return sum(map(self._width, shown)) + gap * (len(shown) - 1)

    def _width(self, name: str) -> int:
        texts = [name, *self._cells(name)]
        if name not in self.wraps:
            return max(map(cell_len, texts))
        words = (word for text in texts for word in text.split())
        return min(_LONGEST_WORD, max(map(cell_len, words), default=1))

    def _holds_numbers(self, name: str) -> bool:
        cells = [cell for cell in self._cells(name) if cell not in ("", "–")]
        return bool(cells) and all(cell.lstrip("-+<±")[:1].isdigit() for cell in cells)


def whole(text: str) -> Text:
    """Lines that are copied: never wrapped, never cut, however narrow the terminal is."""
    return Text(text, no_wrap=True, overflow="ignore")


def grid(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values; a long value goes on below itself."""
    table = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for name, value in rows:
        table.add_row(name, value)
    return table


def lines(value: Mapping[str, Any]) -> Table:
    """A result, one line per field."""
    return grid((key, _listed(entry)) for key, entry in value.items())


def _listed(entry: Any) -> str:
    if isinstance(entry, dict):
        return ", ".join(f"{name} {short(part)}" for name, part in entry.items())
    return (", ".join(map(str, entry)) or "none") if isinstance(entry, list) else str(entry)


def short(value: object) -> str:
    """A value with four digits, – for None."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
