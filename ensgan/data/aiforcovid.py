"""AIforCOVID: chest X-rays in DICOM with a prognosis for each (Soda et al., 2021).

The data are given out on request, so their exact layout is not assumed: the table, its columns,
the classes, lung boxes, masks and fold files can all be named by options. The defaults are the
columns ``ImageFile`` and ``Prognosis`` with the values ``MILD`` and ``SEVERE``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ensgan.data.decode import refuse, relative
from ensgan.data.picture import Box
from ensgan.data.records import OPTIONS as SHARED_OPTIONS
from ensgan.data.records import Record, build, inside, picture_files
from ensgan.data.request import Option, Request
from ensgan.data.split import SPLITS
from ensgan.data.table import SUFFIXES, Table, read_table
from ensgan.errors import DataError
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
    Option("fold", int, 0, "which fold the split files are taken from", minimum=0),
    *SHARED_OPTIONS,
)


def load(request: Request) -> Dataset:
    """Read the folder ``request.root``.

    Raises:
        DataError: with every row, file, box and split entry that cannot be used.
    """
    root = request.root
    table = read_table(_table_path(request))
    file_column, label_column = (
        str(request.option(name)) for name in ("file_column", "label_column")
    )
    table.require(file_column, label_column)
    names = tuple(name.strip() for name in str(request.option("classes")).split(","))
    if len(set(names)) != len(names) or not all(names):
        raise DataError(f"option classes must be different names, not '{','.join(names)}'")
    boxes = _boxes(request, file_column)
    masks = _masks(request)
    images = _Images(_images_folder(request), root, set((masks or {}).values()))
    split_of = _split_files(request, images)
    problems: list[str] = []
    records: list[Record] = []
    used: set[Path] = set()
    patient_column = str(request.option("patient_column"))
    has_patients = patient_column in table.columns
    areas = None if boxes is None and masks is None else {*(boxes or {}), *(masks or {})}
    for row in table.rows:
        name, label = row[file_column], row[label_column]
        path = images.find(name)
        problem = _row_problem(name, label, path, names, used)
        if not problem and path is not None and split_of is not None and path not in split_of:
            problem = f"{name} is in no split file"
        if problem or path is None:
            problems.append(problem)
            continue
        used.add(path)
        key = path.stem.lower()
        if areas is not None and key not in areas:
            problems.append(f"{name} has neither a box nor a mask")
            continue
        records.append(
            Record(
                path,
                names.index(label),
                split_of[path] if split_of is not None else None,
                row[patient_column] if has_patients else "",
                (boxes or {}).get(key),
                (masks or {}).get(key),
                bool(request.options["apply_mask"]),
            )
        )
    problems += [
        f"{relative(path, root)} has no row in the table"
        for path in images.files
        if path not in used
    ]
    refuse(f"{table.path.name} and the files do not fit together", problems)
    empty = [name for label, name in enumerate(names) if all(r.label != label for r in records)]
    if empty:
        raise DataError(f"{table.path.name} has no image of class {', '.join(empty)}")
    border = float(request.option("border"))
    return build(request, records, names, source=f"AIforCOVID, {table.path.name}", border=border)


class _Images:
    """The image files, found by path, by name, or by name without its ending."""

    def __init__(self, folder: Path, root: Path, masks: set[Path]) -> None:
        self.files = tuple(path for path in picture_files(folder) if path not in masks)
        if not self.files:
            raise DataError(f"{folder} holds no image files")
        self._by_name: dict[str, list[Path]] = {}
        for path in self.files:
            inner = path.relative_to(folder).as_posix().lower()
            for key in {inner, path.name.lower(), path.stem.lower()}:
                self._by_name.setdefault(key, []).append(path)
        self._root = root

    def find(self, name: str) -> Path | None:
        """The one file of that name, or None.

        Raises:
            DataError: several files have the name.
        """
        key = name.replace("\\", "/").strip().lower()
        found = self._by_name.get(key, [])
        if len(found) > 1:
            shown = ", ".join(relative(path, self._root) for path in found[:3])
            raise DataError(
                f"several files are called {name}: {shown}; write the path in the "
                "table, or name the image folder with the option images"
            )
        return found[0] if found else None


def _row_problem(
    name: str, label: str, path: Path | None, names: Sequence[str], used: set[Path]
) -> str:
    """What is wrong with a row, "" if nothing."""
    if not name:
        return "a row has no image name"
    if path is None:
        return f"{name} does not exist"
    if label not in names:
        return f"{name} has the label '{label}', not one of {', '.join(names)}"
    if path in used:
        return f"{name} is named twice"
    return ""


def _table_path(request: Request) -> Path:
    name = request.text("table")
    if name is not None:
        return _named(request, "table", name)
    special = {request.text("boxes")}
    found = sorted(
        path
        for path in request.root.iterdir()
        if path.suffix.lower() in SUFFIXES
        and path.name not in special
        and not path.name.startswith((".", "~"))
    )
    if len(found) != 1:
        shown = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"{request.root} must hold one label table (.csv, .tsv or .xlsx), found {shown}: name "
            "it with the option table"
        )
    return found[0]


def _images_folder(request: Request) -> Path:
    name = request.text("images")
    folder = request.root if name is None else _named(request, "images", name)
    if not folder.is_dir():
        raise DataError(f"the image folder {folder} does not exist")
    return folder


def _named(request: Request, option: str, name: str) -> Path:
    path = inside(request.root, name)
    if path is None:
        raise DataError(f"option {option} must name something inside {request.root}, not '{name}'")
    return path


def _boxes(request: Request, file_column: str) -> dict[str, Box] | None:
    """Boxes by image name without ending."""
    name = request.text("boxes")
    if name is None:
        return None
    table: Table = read_table(_named(request, "boxes", name))
    table.require(file_column, *BOX_COLUMNS)
    boxes: dict[str, Box] = {}
    problems = []
    for row in table.rows:
        try:
            box = Box(*(float(row[column]) for column in BOX_COLUMNS))
        except ValueError:
            problems.append(f"{row[file_column]} has a box that is not four numbers")
            continue
        boxes[Path(row[file_column]).stem.lower()] = box
    refuse(f"{table.path.name} cannot be used", problems)
    return boxes


def _masks(request: Request) -> dict[str, Path] | None:
    """Mask files by name without ending."""
    name = request.text("masks")
    if name is None:
        return None
    folder = _named(request, "masks", name)
    if not folder.is_dir():
        raise DataError(f"the mask folder {folder} does not exist")
    return {path.stem.lower(): path for path in picture_files(folder)}


def _split_files(request: Request, images: _Images) -> dict[Path, str] | None:
    """The split of each image that the fold's files list."""
    pattern = request.text("split_files")
    if pattern is None:
        return None
    if "{split}" not in pattern:
        raise DataError(f"option split_files must contain {{split}}: '{pattern}'")
    split_of: dict[Path, str] = {}
    problems = []
    for split in SPLITS:
        name = pattern.replace("{split}", split).replace("{fold}", str(request.option("fold")))
        path = _named(request, "split_files", name)
        if not path.is_file():
            if split == "val":
                continue  # taken from the training images
            raise DataError(f"no such file: {path}")
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = line.split(",")[0].split("\t")[0].strip()
            found = images.find(entry) if entry else None
            if found is None and entry:
                problems.append(f"{name}: {entry} does not exist")
            elif found is not None and split_of.setdefault(found, split) != split:
                problems.append(f"{name}: {entry} is also in {split_of[found]}")
    refuse("the split files cannot be used", problems)
    return split_of
