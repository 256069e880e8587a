"""Folders of images: a folder a class, or one folder with a label table.

Three layouts: ``CLASS/image.png``; ``train|val|test/CLASS/image.png``; images anywhere below the
folder with ``labels.csv`` beside them (columns file and label, and, if you like, split and
patient).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ensgan.data.decode import Findings, refuse, relative
from ensgan.data.picture import SUFFIXES
from ensgan.data.records import OPTIONS as SHARED_OPTIONS
from ensgan.data.records import Record, build, inside, picture_files
from ensgan.data.request import Option, Request
from ensgan.data.table import Table, read_table
from ensgan.errors import DataError
from ensgan.types import Dataset

OPTIONS = (
    Option("table", str, "labels.csv", "label table inside the folder (used when it exists)"),
    Option("file_column", str, "file", "column of the table with the file names"),
    Option("label_column", str, "label", "column of the table with the classes"),
    Option("split_column", str, "split", "column with train, val or test (if there is one)"),
    Option("patient_column", str, "patient", "column with the patients (if there is one)"),
    Option(
        "patient_pattern",
        str,
        None,
        "regular expression whose first group, searched in the file name, is the patient",
    ),
    *SHARED_OPTIONS,
)

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def load(request: Request) -> Dataset:
    """Read the folder ``request.root``.

    Raises:
        DataError: with every file that cannot be used.
    """
    root = request.root
    files = picture_files(root)
    if not files:
        endings = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{root} holds no image files ({endings})")
    path = inside(root, str(request.option("table")))
    if path is None:
        raise DataError(f"option table must name a file inside {root}")
    table_exists = path.is_file()
    problems: list[str] = []
    if table_exists:
        records, names = _from_table(request, read_table(path), files, problems)
    elif request.option("table") != "labels.csv":
        raise DataError(f"no such file: {path}")
    else:
        records, names = _from_folders(request, files)
    used = {record.path for record in records}
    return build(
        request,
        records,
        names,
        source=f"folder {root.resolve().name}",
        found=Findings(
            f"{path.name} and the images cannot be used"
            if table_exists
            else f"{root} cannot be used",
            tuple(problems),
        ),
        others=[file for file in files if file not in used],
    )


def _patient(request: Request, name: str) -> str:
    pattern = request.text("patient_pattern")
    if pattern is None:
        return ""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"option patient_pattern: {error}") from error
    if expression.groups < 1:
        raise DataError(f"option patient_pattern needs a group in round brackets: {pattern}")
    match = expression.search(name)
    if match is None or not match.group(1):
        raise DataError(f"option patient_pattern finds no patient in {name}")
    return match.group(1)


def _from_folders(request: Request, files: Sequence[Path]) -> tuple[list[Record], tuple[str, ...]]:
    """Records of the two layouts without a table."""
    root = request.root
    parts = [path.relative_to(root).parts for path in files]
    tops = sorted(entry.name for entry in root.iterdir() if _is_shown_folder(entry))
    has_splits = bool(tops) and all(name.lower() in _SPLIT_NAMES for name in tops)
    depth = 2 if has_splits else 1
    layout = "SPLIT/CLASS/image" if has_splits else "CLASS/image"
    refuse(
        f"{root}: these files are in no class folder ({layout}); put them into one (a single one "
        "for images without classes) or write a labels.csv with the columns file and label",
        [
            relative(path, root)
            for path, part in zip(files, parts, strict=True)
            if len(part) <= depth
        ],
    )
    names = tuple(sorted({part[depth - 1] for part in parts}))
    folders = sorted(root.glob("*/*" if has_splits else "*"))
    filled = {part[:depth] for part in parts}
    refuse(
        f"{root}: these class folders hold no images",
        [
            relative(folder, root)
            for folder in folders
            if _is_shown_folder(folder) and folder.relative_to(root).parts not in filled
        ],
    )
    _require_classes(names, root)
    records = [
        Record(
            path,
            names.index(part[depth - 1]),
            _SPLIT_NAMES[part[0].lower()] if has_splits else None,
            _patient(request, path.name),
        )
        for path, part in zip(files, parts, strict=True)
    ]
    return records, names


def _is_shown_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _require_classes(names: tuple[str, ...], root: Path) -> None:
    if len(names) > 1000:
        raise DataError(f"{root} has {len(names)} classes: are these file names?")


def _from_table(
    request: Request, table: Table, files: Sequence[Path], problems: list[str]
) -> tuple[list[Record], tuple[str, ...]]:
    """Records of the layout with a table; every image must be named once and every name exist.

    What does not hold is added to ``problems``.
    """
    file_column, label_column = (
        str(request.option("file_column")),
        str(request.option("label_column")),
    )
    table.require(file_column, label_column)
    split_column, patient_column = (
        column if (column := str(request.option(name))) in table.columns else None
        for name in ("split_column", "patient_column")
    )
    root = request.root
    known = {path.resolve(): path for path in files}
    used: dict[Path, str] = {}
    kept: list[tuple[Path, dict[str, str]]] = []
    for row in table.rows:
        name = row[file_column]
        path = inside(root, name)
        problem = _row_problem(name, path, known, used)
        if not problem and not row[label_column]:
            problem = f"{name} has no label"
        if not problem and split_column and row[split_column].lower() not in _SPLIT_NAMES:
            problem = f"{name} is in split '{row[split_column]}', not train, val or test"
        if problem or path is None:
            problems.append(problem)
            continue
        used[path.resolve()] = name
        kept.append((known[path.resolve()], row))
    problems += [
        f"{relative(path, root)} has no row in the table"
        for resolved, path in known.items()
        if resolved not in used
    ]
    names = class_order({row[label_column] for _, row in kept})
    _require_classes(names, root)
    records = [
        Record(
            path,
            names.index(row[label_column]),
            _SPLIT_NAMES[row[split_column].lower()] if split_column else None,
            row[patient_column] if patient_column else _patient(request, path.name),
        )
        for path, row in kept
    ]
    return records, names


def _row_problem(
    name: str, path: Path | None, known: dict[Path, Path], used: dict[Path, str]
) -> str:
    """What is wrong with a file name of the table, "" if nothing."""
    if not name:
        return "a row has no file name"
    if path is None:
        return f"{name} leads out of the folder"
    if path.resolve() not in known:
        return f"{name} does not exist" if not path.exists() else f"{name} is no image file"
    if path.resolve() in used:
        return f"{name} is named twice"
    return ""


def class_order(names: set[str]) -> tuple[str, ...]:
    """Numbers in numerical order, anything else in alphabetical order."""
    if all(name.isdigit() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))
