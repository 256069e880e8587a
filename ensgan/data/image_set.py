"""One set of images (a folder, ``.npz`` or ``.npy``) with its classes, as pools hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ensgan.caches import cache_folder
from ensgan.data.folder import class_order
from ensgan.data.image_files import decode_files, find_pictures
from ensgan.data.picture import read_picture
from ensgan.data.prepare import Job, Preparation, make_square, resize, with_channels
from ensgan.data.request import split_of_folder
from ensgan.data.table import NamedFiles, Table, labels_table, read_table
from ensgan.errors import DataError
from ensgan.files import map_array, read_npz
from ensgan.inputs import kind, refuse, relative
from ensgan.types import ImageShape, Int64Array, UInt8Array, check_class_names

ONE_CLASS = ("image",)


@dataclass(frozen=True)
class Labels:
    """Class indices int64 [n], the class names, and whether the images came with classes."""

    values: Int64Array
    names: tuple[str, ...]
    given: bool


def read_images(
    path: Path, root: Path, shape: ImageShape | int | None, class_names: tuple[str, ...] | None
) -> tuple[UInt8Array, Labels]:
    """The images of a set and their classes.

    Args:
        path: a folder (class folders, ``labels.csv`` or plain images), ``.npz`` or ``.npy``.
        root: file names in messages are relative to it.
        shape: size and channels wanted, or the size alone; None keeps those of the first image.
        class_names: the real set's; None where this is the real set.

    Raises:
        DataError: missing, or images or classes that cannot be used.
    """
    if kind(path) == "absent":
        raise DataError(f"no such file or folder of images: {path}")
    if kind(path) == "folder":
        return _read_folder(path, root, shape, class_names)
    is_archive = path.suffix == ".npz"
    arrays = read_npz(path, ("images",)) if is_archive else {"images": map_array(path)}
    images = _checked(arrays["images"], path)
    labels = _array_labels(arrays, len(images), class_names, path)
    return fitted(images, shape), labels


def fitted(images: UInt8Array, shape: ImageShape | int | None) -> UInt8Array:
    """Images uint8 [n,H,W] or [n,H,W,3] cut square, at the size (and channels) wanted."""
    size, channels = _wanted(shape)
    images = with_channels(images, channels)
    if images.shape[1] != images.shape[2]:
        images = np.stack([make_square(image, "crop") for image in images])
    return np.ascontiguousarray(resize(images, size or images.shape[1]))


def _wanted(shape: ImageShape | int | None) -> tuple[int | None, int | None]:
    """Size and channels, None where they do not matter."""
    return (shape.size, shape.channels) if isinstance(shape, ImageShape) else (shape, None)


def _read_folder(
    path: Path, root: Path, shape: ImageShape | int | None, class_names: tuple[str, ...] | None
) -> tuple[UInt8Array, Labels]:
    pictures = find_pictures(path)
    # A warning would not be seen here: what looks like an image must be one.
    refuse(f"{path} cannot be used", pictures.warnings)
    if not pictures.files:
        raise DataError(f"{path} holds no images")
    labels = _folder_labels(path, pictures.files, class_names)
    size, channels = _wanted(shape)
    if size is None:
        try:
            size = min(read_picture(pictures.files[0])[0].shape[:2])
        except DataError as error:
            raise DataError(f"{pictures.files[0]} {error}") from error
    jobs, preparation = [Job(file) for file in pictures.files], Preparation(size, channels)
    return decode_files(jobs, preparation, root=root, cache=cache_folder()).images, labels


def _checked(images: npt.NDArray[Any], path: Path) -> UInt8Array:
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    colours = images.ndim == 4 and images.shape[3] == 3
    if images.dtype != np.uint8 or not (images.ndim == 3 or colours) or not images.size:
        raise DataError(
            f"{path}: images must be uint8 [n,H,W] or [n,H,W,3] with values 0…255, not "
            f"{images.dtype} {list(images.shape)}"
        )
    return images


def _folder_labels(
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
    if kind(labels := labels_table(folder)) == "file":
        texts = _from_table(read_table(labels), folder, files)
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
        refuse(
            f"{folder} holds folders of splits: name the folder of one split",
            sorted({name for parts in inner for name in parts[:-1] if split_of_folder(name)}),
        )
    return _indexed(texts, class_names, folder)


def _array_labels(
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
            f"{path}: labels must be {count} integers, one per image, not {labels.dtype} "
            f"{list(labels.shape)}"
        )
    values = labels.astype(np.int64)
    names = class_names
    if names is not None and "class_names" in arrays:
        values = _by_name(values, arrays["class_names"], names, path)
    elif names is None:
        most = int(values.max())
        if most >= 1000 and "class_names" not in arrays:
            raise DataError(f"{path}: labels go up to {most}: at most 1,000 classes are supported")
        given = arrays.get("class_names", np.arange(most + 1))
        names = check_class_names([str(name) for name in given.reshape(-1)], f"{path}: class_names")
    if len(names) == 1:
        return _unlabelled(count, names)
    if values.min() < 0 or values.max() >= len(names):
        raise DataError(
            f"{path}: labels are {values.min()}…{values.max()}, but the classes are "
            f"0…{len(names) - 1} ({', '.join(names[:10])})"
        )
    return Labels(values, names, given=True)


def _by_name(
    values: Int64Array, file_names: npt.NDArray[Any], names: tuple[str, ...], path: Path
) -> Int64Array:
    """Indices among a file's own class names as indices among those of the real set."""
    own_names = [str(name) for name in file_names.reshape(-1)]
    unknown = sorted(set(own_names) - set(names))
    if unknown or not len(values) or values.min() < 0 or values.max() >= len(own_names):
        raise DataError(
            f"{path}: its class_names are {', '.join(own_names[:10])} and its labels "
            f"{values.min()}…{values.max()}, but the real images have {', '.join(names[:10])}"
        )
    return np.array([names.index(name) for name in own_names], np.int64)[values]


def _unlabelled(count: int, class_names: tuple[str, ...] | None) -> Labels:
    return Labels(np.zeros(count, np.int64), class_names or ONE_CLASS, given=False)


def _from_table(table: Table, folder: Path, files: Sequence[Path]) -> list[str]:
    column = "class" if "class" in table.columns else "label"
    table.require("file", column)
    rows, problems = NamedFiles(folder, files, folder).rows(
        table, "file", lambda path, row: "" if row[column] else f"{row['file']} has no {column}"
    )
    refuse(f"{table.path} and the images do not fit together", problems)
    return [rows[file][column] for file in files]


def _indexed(texts: Sequence[str], class_names: tuple[str, ...] | None, folder: Path) -> Labels:
    names = class_names or check_class_names(class_order(set(texts)), str(folder))
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
