"""Tables that fit: what a narrow terminal has no room for is left out and named; nothing is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

_GAPS = (2, 1)
"""Blanks between columns, where there is room and where there is little."""
_LONGEST_WORD = 32
"""Columns that a word may claim; names may have hundreds."""


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
