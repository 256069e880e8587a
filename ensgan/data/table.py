"""Label tables (CSV, TSV, the first sheet of an Excel workbook), and the files their rows name."""

from __future__ import annotations

import csv
import io
import posixpath
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree

from ensgan.errors import DataError
from ensgan.files import read_text
from ensgan.inputs import explained, inside, kind, relative, require_expansion, require_file

SUFFIXES = (".csv", ".tsv", ".xlsx")

Row: TypeAlias = Mapping[str, str]
"""Cells by column name."""

_MAX_TABLE = 64 << 20  # bytes of text or XML, which take ten times that in memory
_MAX_CELLS = 10_000_000  # empty ones too: a cell far to the right takes few bytes of a file
_LINK = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_SPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


@dataclass(frozen=True)
class Table:
    """Rows of a table by column name, and the file it comes from."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def require(self, *columns: str, remedy: str = "") -> None:
        """Refuse the table unless it has the columns.

        Args:
            columns: what it must have.
            remedy: what else to do, for the message.

        Raises:
            DataError: with the columns it lacks and those it has.
        """
        missing = [name for name in columns if name not in self.columns]
        if missing:
            raise DataError(
                f"{self.path.name} lacks the column{'s' * (len(missing) > 1)} "
                f"{', '.join(missing)}; it has {', '.join(self.columns) or 'none'}{remedy}"
            )


NAME_COLUMNS = "; say which they are: --option file_column=NAME, --option label_column=NAME"
"""What to do about a table whose columns have other names."""


def labels_table(folder: Path) -> Path:
    """The label table that a folder has without saying so: ``labels``, whatever kind of table.

    Returns:
        its path; that of ``labels.csv`` where there is none.

    Raises:
        DataError: several.
    """
    tables = sorted(
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.stem.casefold() == "labels" and path.suffix.lower() in SUFFIXES
    )
    if len(tables) > 1:
        shown = ", ".join(path.name for path in tables)
        raise DataError(f"{folder} holds several label tables ({shown}): leave one of them there")
    return tables[0] if tables else folder / "labels.csv"


def read_table(path: Path) -> Table:
    """Read a table whose first row names the columns; empty rows are left out.

    Raises:
        DataError: missing, of another kind, empty, or unreadable.
    """
    require_file(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path} is not {', '.join(SUFFIXES)}: save the table as one of these")
    lines = _read_xlsx(path) if suffix == ".xlsx" else _read_text(path, suffix)
    lines = [line for line in lines if any(cell for cell in line)]
    if len(lines) < 2:
        raise DataError(f"{path} has no rows below its header")
    columns = tuple(lines[0])
    _require_cells(path, len(columns) * len(lines))
    repeated = sorted({name for name in columns if name and columns.count(name) > 1})
    if repeated:
        raise DataError(f"{path} repeats the column {', '.join(repeated)}")
    longer = next((line for line in lines if any(line[len(columns) :])), None)
    if longer is not None and suffix != ".xlsx":  # beside a sheet's table there may be notes
        raise DataError(
            f"{path}: the row '{', '.join(longer)[:120]}' has more cells than the header names: "
            "put a text that holds the separator in quotes"
        )
    rows = tuple(
        {name: line[index] if index < len(line) else "" for index, name in enumerate(columns)}
        for line in lines[1:]
    )
    return Table(path, columns, rows)


def _read_text(path: Path, suffix: str) -> list[list[str]]:
    text = read_text(path, _MAX_TABLE)
    head = text.partition("\n")[0]
    separator = "\t" if suffix == ".tsv" else max(",;\t", key=head.count)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        return [[cell.strip() for cell in row] for row in rows]
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error


def _read_xlsx(path: Path) -> list[list[str]]:
    with explained(f"{path} cannot be read as an Excel workbook"), zipfile.ZipFile(path) as book:
        require_expansion(path, book.infolist())
        first = _first_sheet(book, path)
        wanted = [name for name in ("xl/sharedStrings.xml",) if name in book.namelist()]
        if sum(book.getinfo(name).file_size for name in (first, *wanted)) > _MAX_TABLE:
            raise DataError(f"{path} is too large for a label table")
        strings = [
            "".join(text.text or "" for text in item.iter(f"{_SPACE}t"))
            for name in wanted
            for item in ElementTree.fromstring(book.read(name)).iter(f"{_SPACE}si")
        ]
        sheet = ElementTree.fromstring(book.read(first))
    rows: list[list[str]] = []
    cells = 0
    for row in sheet.iter(f"{_SPACE}row"):
        rows.append(_row(row, strings, path))
        cells += len(rows[-1])
        _require_cells(path, cells)
    return rows


def _require_cells(path: Path, cells: int) -> None:
    if cells > _MAX_CELLS:
        raise DataError(f"{path} has more than {_MAX_CELLS:,} cells: too large for a label table")


def _first_sheet(book: zipfile.ZipFile, path: Path) -> str:
    """The file of the sheet that stands first in the workbook; files are numbered as they came."""
    names = [name for name in book.namelist() if name.startswith("xl/worksheets/sheet")]
    if not names:
        raise DataError(f"{path} has no sheet")
    if len(names) == 1:
        return names[0]
    parts = ("xl/workbook.xml", "xl/_rels/workbook.xml.rels")
    if sum(book.getinfo(part).file_size for part in parts) > _MAX_TABLE:
        raise DataError(f"{path} is too large for a label table")
    sheets, links = (ElementTree.fromstring(book.read(part)) for part in parts)
    shown = [sheet for sheet in sheets.iter(f"{_SPACE}sheet") if sheet.get("state") is None]
    targets = {link.get("Id"): link.get("Target", "") for link in links}
    # Relative to xl/, or from the root of the archive.
    return posixpath.join("/xl", targets[shown[0].get(_LINK)]).removeprefix("/")


def _row(row: ElementTree.Element, strings: list[str], path: Path) -> list[str]:
    cells: dict[int, str] = {}
    for cell in row.iter(f"{_SPACE}c"):
        column = _column(cell.get("r", "")) if cell.get("r") else len(cells)
        value = cell.find(f"{_SPACE}v")
        text = "".join(part.text or "" for part in cell.iter(f"{_SPACE}t"))
        if value is not None and value.text is not None:
            text = value.text
            if cell.get("t") == "s":
                if not text.isdigit() or int(text) >= len(strings):
                    raise DataError(f"{path} refers to a text that it does not hold")
                text = strings[int(text)]
        cells[column] = text.strip()
    return [cells.get(index, "") for index in range(max(cells, default=-1) + 1)]


def _column(reference: str) -> int:
    """The index of a cell reference such as ``AB12``, at most 16,383."""
    index = 0
    for letter in re.sub(r"[^A-Z]", "", reference.upper())[:3]:
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1


class NamedFiles:
    """Image files found by path, by name, or by either without its ending.

    Args:
        folder: what paths are relative to.
        files: the files.
        root: names in messages are relative to it.
    """

    def __init__(self, folder: Path, files: Sequence[Path], root: Path) -> None:
        self.files = tuple(files)
        self._folder, self._root = folder, root
        self._by_path = {path.relative_to(folder).as_posix(): path for path in files}
        self._by_name: dict[str, list[Path]] = {}
        for path in files:
            inner = path.relative_to(folder)
            keys = {inner.as_posix(), inner.with_suffix("").as_posix(), path.name, path.stem}
            for key in {key.lower() for key in keys}:
                self._by_name.setdefault(key, []).append(path)

    def find(self, name: str) -> tuple[Path | None, str]:
        """The one file of that name, or None and what is wrong."""
        text = name.replace("\\", "/").strip()
        if not text:
            return None, "a row has no file name"
        if text in self._by_path:
            return self._by_path[text], ""
        paths = self._by_name.get(text.lower().removeprefix("./"), [])
        if len(paths) > 1:
            shown = ", ".join(relative(path, self._root) for path in paths[:3])
            return None, (
                f"several files are called {name}: {shown}; write the path in the table, or name "
                "the image folder with the option images"
            )
        if paths:
            return paths[0], ""
        place = inside(self._folder, name)
        if place is None:
            return None, f"{name} leads out of the folder"
        reason = "does not exist" if kind(place) == "absent" else "is no image file"
        return None, f"{name} {reason}"

    def rows(
        self, table: Table, column: str, problem_of: Callable[[Path, Row], str]
    ) -> tuple[dict[Path, Row], list[str]]:
        """The row of each file, and what is wrong: all names must exist, all files be named once.

        Args:
            table: whose ``column`` names the files.
            problem_of: what else is wrong with a row, "" if nothing.
        """
        rows: dict[Path, Row] = {}
        named: set[Path] = set()
        problems = []
        for row in table.rows:
            path, problem = self.find(row[column])
            if path is not None:
                twice = f"{row[column]} is named twice" if path in named else ""
                problem = twice or problem_of(path, row)
                named.add(path)
            if problem or path is None:
                problems.append(problem)
            else:
                rows[path] = row
        missing = [relative(path, self._root) for path in self.files if path not in named]
        return rows, problems + [f"{name} has no row in the table" for name in missing]
