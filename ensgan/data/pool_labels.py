"""The classes of a pool's images: from class folders, a table or an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ensgan.data.decode import refuse, relative
from ensgan.data.folder import class_order
from ensgan.data.records import inside
from ensgan.data.table import read_table
from ensgan.errors import DataError
from ensgan.types import Int64Array

ONE_CLASS = ("image",)


@dataclass(frozen=True)
class Labels:
    """Class indices int64 [n], the class names, and whether the images came with classes."""

    values: Int64Array
    names: tuple[str, ...]
    given: bool


def folder_labels(
    folder: Path, files: Sequence[Path], class_names: tuple[str, ...] | None
) -> Labels:
    """Classes of the images below a folder.

    Args:
        folder: with ``labels.csv`` (file, and class or label), class folders, or images only.
        files: the images, in order.
        class_names: the real set's; None to find them here.

    Raises:
        DataError: classes the real set does not have, images without one, a table that does not
            fit the files.
    """
    if (folder / "labels.csv").is_file():
        texts = _from_table(folder, files)
    else:
        inner = [file.relative_to(folder).parts for file in files]
        loose = [
            relative(file, folder)
            for file, parts in zip(files, inner, strict=True)
            if len(parts) == 1
        ]
        if len(loose) == len(files):
            return _unlabelled(len(files), class_names)
        refuse(f"{folder} holds class folders, but these images are in none", loose)
        texts = [parts[0] for parts in inner]
    return _indexed(texts, class_names, folder)


def array_labels(
    arrays: Mapping[str, npt.NDArray[Any]],
    count: int,
    class_names: tuple[str, ...] | None,
    path: Path,
) -> Labels:
    """Classes of ``count`` images: ``labels`` and, in the real set's file, ``class_names``.

    Raises:
        DataError: another number of labels, no integers, or classes the real set does not have.
    """
    if "labels" not in arrays:
        return _unlabelled(count, class_names)
    labels = arrays["labels"]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise DataError(
            f"{path}: labels must be {count} integers, one an image, not {labels.dtype} "
            f"{list(labels.shape)}"
        )
    values = labels.astype(np.int64)
    names = class_names
    if names is None:
        found = arrays.get("class_names", np.arange(int(values.max()) + 1))
        names = tuple(str(name) for name in found.reshape(-1))
    if len(names) == 1:
        return _unlabelled(count, names)
    if values.min() < 0 or values.max() >= len(names):
        raise DataError(
            f"{path}: labels are {values.min()}…{values.max()}, but the classes are "
            f"0…{len(names) - 1} ({', '.join(names[:10])})"
        )
    return Labels(values, names, given=True)


def _unlabelled(count: int, class_names: tuple[str, ...] | None) -> Labels:
    return Labels(np.zeros(count, np.int64), class_names or ONE_CLASS, given=False)


def _from_table(folder: Path, files: Sequence[Path]) -> list[str]:
    table = read_table(folder / "labels.csv")
    column = "class" if "class" in table.columns else "label"
    table.require("file", column)
    by_file: dict[Path, str] = {}
    problems = []
    known = {file.resolve() for file in files}
    for row in table.rows:
        path = inside(folder, row["file"])
        if path is None:
            problems.append(f"{row['file']} leads out of the folder")
        elif path.resolve() not in known:
            problems.append(f"{row['file']} does not exist or is no image")
        elif not row[column]:
            problems.append(f"{row['file']} has no {column}")
        else:
            by_file[path.resolve()] = row[column]
    problems += [
        f"{relative(file, folder)} has no row" for file in files if file.resolve() not in by_file
    ]
    refuse(f"{table.path} and the images do not fit together", problems)
    return [by_file[file.resolve()] for file in files]


def _indexed(texts: Sequence[str], class_names: tuple[str, ...] | None, folder: Path) -> Labels:
    names = class_names or class_order(set(texts))
    if len(names) == 1:
        return _unlabelled(len(texts), names)
    places = {name: index for index, name in enumerate(names)}
    places |= {str(index): index for index in range(len(names)) if str(index) not in places}
    unknown = sorted(set(texts) - set(places))
    if unknown:
        raise DataError(
            f"{folder} has the classes {', '.join(unknown[:10])}, which the real images do not "
            f"have: they have {', '.join(names[:20])}"
        )
    return Labels(np.array([places[text] for text in texts], np.int64), names, given=True)
