"""Folders of images: one folder per class, or one folder with a label table.

Three layouts: ``CLASS/image.png``; ``train|val|test/CLASS/image.png``; images anywhere below the
folder with ``labels.csv`` beside them (columns file and label, and, if you like, split and
patient).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from ensgan.data.image_files import find_pictures, is_leftover
from ensgan.data.picture import SUFFIXES
from ensgan.data.records import OPTIONS as SHARED_OPTIONS
from ensgan.data.records import Record, build
from ensgan.data.request import SPLIT_NAMES, Option, Request, Source, split_of_folder
from ensgan.data.table import NAME_COLUMNS, NamedFiles, Row, Table, labels_table, read_table
from ensgan.errors import DataError
from ensgan.files import parse_json
from ensgan.inputs import kind, refuse, relative
from ensgan.text import printable
from ensgan.types import Dataset, check_class_names

OPTIONS = (
    Option("table", str, None, "label table inside the folder; default: labels.csv, .tsv or .xlsx"),
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

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_PATTERN_SECONDS = 10.0
# Run in another process, which can be ended: a search of Python's ``re`` cannot.
_SEARCH = (
    "import json, re, sys; pattern, names = json.load(sys.stdin); "
    "found = [re.search(pattern, name) for name in names]; "
    "json.dump([match and match.group(1) for match in found], sys.stdout)"
)


def load(request: Request) -> Dataset:
    """Read the folder ``request.root``.

    Raises:
        DataError: with every file that cannot be used.
    """
    root = request.root
    pictures = find_pictures(root)
    if not pictures.files:
        left_out = "".join(f"; {text}" for text in pictures.warnings)
        raise DataError(f"{root} holds no image files ({', '.join(sorted(SUFFIXES))}){left_out}")
    asked = request.place("table")
    path = asked or labels_table(root)
    has_table = kind(path) != "absent"
    problems: list[str] = []
    if has_table:
        records, names = _from_table(request, read_table(path), pictures.files, problems)
    elif asked is not None:
        raise DataError(f"no such file: {path}")
    else:
        records, names = _from_folders(request, pictures.files)
    named = f"{path.name} and the images" if has_table else str(root)
    return build(
        request,
        records,
        names,
        source=f"folder {printable(root.resolve().name)}",
        headline=f"{named} cannot be used",
        problems=problems,
        pictures=pictures,
    )


def _patients(request: Request, names: Sequence[str]) -> list[str]:
    """The patient that the option patient_pattern finds in each file name, "" without one."""
    pattern = request.text("patient_pattern")
    if pattern is None:
        return [""] * len(names)
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise DataError(f"option patient_pattern: {error}") from error
    if expression.groups < 1:
        raise DataError(f"option patient_pattern needs a group in round brackets: {pattern}")
    command = [sys.executable, "-I", "-c", _SEARCH]
    try:
        answer = subprocess.run(
            command,
            input=json.dumps([pattern, names]).encode(),
            capture_output=True,
            check=True,
            timeout=_PATTERN_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"option patient_pattern: '{pattern}' was still searching {len(names):,} file names "
            f"after {_PATTERN_SECONDS:.0f} s: write it without repeats inside repeats"
        ) from error
    except (OSError, subprocess.CalledProcessError) as error:
        raise DataError(f"option patient_pattern: '{pattern}' failed: {error}") from error
    patients = parse_json(answer.stdout, "what patient_pattern found")
    refuse(
        "option patient_pattern finds no patient in some file names",
        [name for name, patient in zip(names, patients, strict=True) if not patient],
    )
    return [str(patient) for patient in patients]


def _from_folders(request: Request, files: Sequence[Path]) -> tuple[list[Record], tuple[str, ...]]:
    """Records of the two layouts without a table."""
    root = request.root
    parts = [path.relative_to(root).parts for path in files]
    tops = {part[0] for part in parts if len(part) > 1}
    splits = {name: split for name in tops if (split := split_of_folder(name))}
    _refuse_misplaced_splits(root, parts, tops, splits)
    depth = 2 if splits else 1
    layout = "SPLIT/CLASS/image" if splits else "CLASS/image"
    refuse(
        f"{root}: these files are in no class folder ({layout}); put them into one (a "
        "single one for images without classes) or write a labels.csv with the columns file and "
        "label",
        [
            relative(path, root)
            for path, part in zip(files, parts, strict=True)
            if len(part) <= depth
        ],
    )
    filled = {part[:depth] for part in parts}
    refuse(
        f"{root}: these class folders hold no images",
        [
            relative(folder, root)
            for folder in sorted(root.glob("*/*" if splits else "*"))
            if folder.is_dir()
            and not any(map(is_leftover, folder.relative_to(root).parts))
            and (not splits or folder.parent.name in splits)
            and folder.relative_to(root).parts not in filled
        ],
    )
    names = _checked_classes({part[depth - 1] for part in parts}, root)
    patients = _patients(request, [path.name for path in files])
    records = [
        Record(path, label=names.index(part[depth - 1]), split=splits.get(part[0]), patient=patient)
        for path, part, patient in zip(files, parts, patients, strict=True)
    ]
    return records, names


def _refuse_misplaced_splits(
    root: Path, parts: Sequence[tuple[str, ...]], tops: set[str], splits: Mapping[str, str]
) -> None:
    """Refuse folders of splits beside or below folders of classes: test images must not be learnt.

    Raises:
        DataError: a folder name that says "split" where a class is expected, or the other way.
    """
    others = sorted(tops - set(splits))
    if splits and others:
        raise DataError(
            f"{root} holds the splits {', '.join(sorted(splits))} and beside them "
            f"{', '.join(others)}: are these splits or classes? Move what is neither elsewhere, or "
            "write a labels.csv with the columns file, label and split"
        )
    if len(set(splits.values())) < len(splits):
        raise DataError(f"{root} holds {', '.join(sorted(splits))}: keep one folder per split")
    depth = 1 if splits else 0
    inner = {"/".join(part[: at + 1]) for part in parts for at in range(depth, len(part) - 1)
             if split_of_folder(part[at])}  # fmt: skip
    refuse(
        f"{root}: these folders are called like splits but lie inside others; splits "
        "must lie directly in the folder that is named (SPLIT/CLASS/image)",
        sorted(inner),
    )


def _checked_classes(names: set[str], root: Path) -> tuple[str, ...]:
    """The classes in order, when no two can be one.

    Raises:
        DataError: too many, not a number (``nan``), or a number written in two ways (1 and 1.0).
    """
    if len(names) > 1000:
        raise DataError(f"{root} has {len(names)} classes: are these file names?")
    lost = [name for name in names if re.fullmatch("[+-]?(nan|inf|infinity)", name.lower())]
    if lost:
        raise DataError(f"{root}: '{lost[0]}' is no class: give these images a label")
    ordered = check_class_names(class_order(names), str(root))
    numbers = [name for name in ordered if _NUMBER.fullmatch(name)]
    for one, other in pairwise(sorted(numbers, key=Decimal)):
        if Decimal(one) == Decimal(other):
            raise DataError(f"{root}: the classes {one} and {other} are one number")
    return ordered


def _from_table(
    request: Request, table: Table, files: Sequence[Path], problems: list[str]
) -> tuple[list[Record], tuple[str, ...]]:
    """Records of the layout with a table; what does not hold is added to ``problems``."""
    file_column, label_column, split_column, patient_column = (
        str(request.option(f"{name}_column")) for name in ("file", "label", "split", "patient")
    )
    table.require(file_column, label_column, remedy=NAME_COLUMNS)
    has_splits, has_patients = split_column in table.columns, patient_column in table.columns

    def problem_of(path: Path, row: Row) -> str:
        if not row[label_column]:
            return f"{row[file_column]} has no label"
        if has_splits and row[split_column].lower() not in SPLIT_NAMES:
            return f"{row[file_column]} is in split '{row[split_column]}', not train, val or test"
        return ""

    named = NamedFiles(request.root, files, request.root)
    rows, wrong_rows = named.rows(table, file_column, problem_of)
    problems += wrong_rows
    names = _checked_classes({row[label_column] for row in rows.values()}, table.path)
    if has_patients:
        patients = [row[patient_column] for row in rows.values()]
    else:
        patients = _patients(request, [path.name for path in rows])
    records = [
        Record(
            path,
            label=names.index(row[label_column]),
            split=SPLIT_NAMES[row[split_column].lower()] if has_splits else None,
            patient=patient,
        )
        for (path, row), patient in zip(rows.items(), patients, strict=True)
    ]
    return records, names


def class_order(names: set[str]) -> tuple[str, ...]:
    """The order of classes everywhere: numbers by value, and numbers inside names too (2 < 10)."""
    if all(_NUMBER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (Decimal(name), name)))

    def natural(name: str) -> tuple[list[str | tuple[int, str]], str]:
        # Texts and numbers alternate, so that like is compared with like.
        parts = re.split(r"([0-9]+)", name)
        digits = [part.lstrip("0") for part in parts[1::2]]
        keys: list[str | tuple[int, str]] = list(parts)
        keys[1::2] = [(len(number), number) for number in digits]
        return keys, name

    return tuple(sorted(names, key=natural))


FOLDER = Source(
    "folder", "images in class folders, or with a labels.csv; data_dir is the folder", load, OPTIONS
)
