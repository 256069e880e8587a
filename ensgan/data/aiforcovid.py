"""AIforCOVID: chest X-rays in DICOM with a prognosis for each (Soda et al., 2021).

The data are given out on request, so their exact layout is not assumed: the table, its columns,
the classes, lung boxes, masks and fold files can all be named by options. The defaults are the
columns ``ImageFile`` and ``Prognosis`` with the values ``MILD`` and ``SEVERE``.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ensgan.data.image_files import Found, find_pictures
from ensgan.data.prepare import Box
from ensgan.data.records import OPTIONS as SHARED_OPTIONS
from ensgan.data.records import Record, build
from ensgan.data.request import SPLITS, Option, Request, Source
from ensgan.data.table import NAME_COLUMNS, SUFFIXES, NamedFiles, Row, read_table
from ensgan.errors import DataError
from ensgan.files import read_text
from ensgan.inputs import kind
from ensgan.types import Dataset

BOX_COLUMNS = ("left", "top", "right", "bottom")

OPTIONS = (
    Option("table", str, None, "label table (.csv, .xlsx); default: the only one at the top"),
    Option("images", str, None, "folder of the images; default: anywhere in the data folder"),
    Option("file_column", str, "ImageFile", "column with the image names (ending optional)"),
    Option("label_column", str, "Prognosis", "column with the classes"),
    Option("classes", str, "MILD,SEVERE", "values of the label column, in class order"),
    Option("patient_column", str, "PatientID", "column with the patients (if there is one)"),
    Option(
        "boxes",
        str,
        None,
        "table of lung boxes in pixels: the file column and left, top, right, bottom",
    ),
    Option("border", float, 0.05, "margin around a box, share of its side", minimum=0, maximum=1),
    Option("masks", str, None, "folder of lung masks, one image file per image, same name"),
    Option("apply_mask", bool, False, "black out what lies outside the mask"),
    Option(
        "split_files",
        str,
        None,
        "pattern of files that list the images of a split, e.g. folds/{fold}/{split}.txt",
    ),
    Option("fold", int, 0, "which fold the split files are taken from", minimum=0, maximum=10**6),
    *SHARED_OPTIONS,
)


def load(request: Request) -> Dataset:
    """Read the folder ``request.root``.

    Raises:
        DataError: with every row, file, box and split entry that cannot be used, in one list.
    """
    source = _Tables(request)
    rows, wrong = source.images.rows(source.table, source.file_column, source.row_problem)
    records = [source.record(path, row) for path, row in rows.items()]
    filled = {source.names[record.label] for record in records}
    wrong += [f"no image of class {name}" for name in source.names if name not in filled]
    return build(
        request,
        records,
        source.names,
        source=f"AIforCOVID, {source.table.path.name}",
        border=float(request.option("border")),
        headline=f"{source.table.path.name} and the files cannot be used",
        problems=[*source.problems, *wrong],
        pictures=source.pictures,
    )


class _Tables:
    """The tables and files, as the options name them; ``problems`` collects what is wrong.

    Raises:
        DataError: options, tables or folders that leave nothing to look at.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.table = read_table(_table_path(request))
        self.file_column, self.label_column, self.patient_column = (
            str(request.option(f"{name}_column")) for name in ("file", "label", "patient")
        )
        self.table.require(self.file_column, self.label_column, remedy=NAME_COLUMNS)
        self.names = _class_names(request)
        self.problems: list[str] = []
        self.boxes = _boxes(request, self.file_column, self.problems)
        masks = _folder(request, "masks")
        mask_files = () if masks is None else find_pictures(masks).files
        self.masks = {path.stem.lower(): path for path in mask_files}
        folder = _folder(request, "images") or request.root
        pictures = find_pictures(folder)
        files = tuple(path for path in pictures.files if path not in mask_files)
        if not files:
            raise DataError(
                f"{folder} holds no image files{''.join(f'; {t}' for t in pictures.warnings)}"
            )
        self.pictures: Found = replace(pictures, files=files)
        self.images = NamedFiles(folder, files, request.root)
        self.split_of = _split_files(request, self.images, self.problems)

    def record(self, path: Path, row: Row) -> Record:
        """One row of the table."""
        key = path.stem.lower()
        return Record(
            path,
            self.boxes.get(key),
            self.masks.get(key),
            bool(self.request.options["apply_mask"]),
            label=self.names.index(row[self.label_column]),
            split=None if self.split_of is None else self.split_of[path],
            patient=row.get(self.patient_column, ""),
        )

    def row_problem(self, path: Path, row: Row) -> str:
        """What is wrong with the row of an image, "" if nothing."""
        name, label = row[self.file_column], row[self.label_column]
        if label not in self.names:
            return f"{name} has the label '{label}', not one of {', '.join(self.names)}"
        if self.split_of is not None and path not in self.split_of:
            return f"{name} is in no split file"
        has_areas = self.request.text("boxes") or self.request.text("masks")
        if has_areas and path.stem.lower() not in {*self.boxes, *self.masks}:
            return f"{name} has neither a box nor a mask"
        return ""


def has_prognosis_table(folder: Path) -> bool:
    """Whether a table at the top of a folder has the columns of AIforCOVID."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            with suppress(DataError):
                if {"ImageFile", "Prognosis"} <= set(read_table(path).columns):
                    return True
    return False


def _class_names(request: Request) -> tuple[str, ...]:
    names = tuple(name.strip() for name in str(request.option("classes")).split(","))
    if len(set(names)) != len(names) or not all(names):
        raise DataError(f"option classes must be different names, not '{','.join(names)}'")
    return names


def _table_path(request: Request) -> Path:
    named = request.place("table")
    if named is not None:
        return named
    special = {request.text("boxes")}
    tables = sorted(
        path
        for path in request.root.iterdir()
        if path.suffix.lower() in SUFFIXES
        and path.name not in special
        and not path.name.startswith((".", "~"))
        and kind(path) == "file"
    )
    if len(tables) != 1:
        shown = ", ".join(path.name for path in tables) or "none"
        raise DataError(
            f"{request.root} must hold one label table (.csv, .tsv or .xlsx), found {shown}: name "
            "it with the option table"
        )
    return tables[0]


def _folder(request: Request, option: str) -> Path | None:
    folder = request.place(option)
    if folder is not None and not folder.is_dir():
        raise DataError(f"the folder of the {option}, {folder}, does not exist")
    return folder


def _boxes(request: Request, file_column: str, problems: list[str]) -> dict[str, Box]:
    """Boxes by image name without ending."""
    path = request.place("boxes")
    if path is None:
        return {}
    table = read_table(path)
    table.require(file_column, *BOX_COLUMNS)
    boxes: dict[str, Box] = {}
    for row in table.rows:
        try:
            edges = [float(row[column]) for column in BOX_COLUMNS]
            if not all(map(math.isfinite, edges)):
                raise ValueError
            box = Box(*edges)
        except ValueError:
            problems.append(f"{row[file_column]} has a box that is not four numbers")
            box = Box(0, 0, 1, 1)  # named already: not "neither a box nor a mask" as well
        boxes[Path(row[file_column]).stem.lower()] = box
    return boxes


def _split_files(
    request: Request, images: NamedFiles, problems: list[str]
) -> dict[Path, str] | None:
    """The split of each image that the fold's files list."""
    pattern = request.text("split_files")
    if pattern is None:
        return None
    if "{split}" not in pattern:
        raise DataError(f"option split_files must contain {{split}}: '{pattern}'")
    split_of: dict[Path, str] = {}
    for split in SPLITS:
        name = pattern.replace("{split}", split).replace("{fold}", str(request.option("fold")))
        path = request.place("split_files", name)
        if path is None or (split == "val" and kind(path) == "absent"):
            continue  # validation images are taken from the training images
        for line in read_text(path).splitlines():
            entry = line.split(",")[0].split("\t")[0].strip()
            if not entry:
                continue
            file, problem = images.find(entry)
            if file is None:
                problems.append(f"{name}: {problem}")
            elif split_of.setdefault(file, split) != split:
                problems.append(f"{name}: {entry} is also in {split_of[file]}")
    return split_of


AIFORCOVID = Source(
    "aiforcovid",
    "AIforCOVID: chest X-rays in DICOM with a label table; data_dir is the folder",
    load,
    OPTIONS,
)
