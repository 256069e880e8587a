"""The data sets by name, and the one way to load them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ensgan.data.aiforcovid import AIFORCOVID, has_prognosis_table
from ensgan.data.archive import FILE_OPTIONS
from ensgan.data.folder import FOLDER
from ensgan.data.medmnist import MEDMNIST, NPZ, load_file, parse_file_name, refuse_volumes
from ensgan.data.phantom import PHANTOM
from ensgan.data.request import ReportProgress, Request, Scalar, Source, data_root, read_options
from ensgan.errors import DataError, unknown_name
from ensgan.inputs import kind, require_file
from ensgan.registry import Registry
from ensgan.text import printable
from ensgan.types import Dataset

DATASETS: Registry[Source] = Registry(
    "data set", "ensgan.datasets", Source, (PHANTOM, FOLDER, NPZ, AIFORCOVID, *MEDMNIST)
)

_LOG = logging.getLogger(__name__)

MAX_SIZE = 4096
"""Largest side of the images, pixels."""


names = DATASETS.names
"""Names of all registered data sets."""


def load_dataset(
    name: str | Path,
    *,
    root: Path | None = None,
    image_size: int = 32,
    options: Mapping[str, Scalar] = MappingProxyType({}),
    seed: int = 0,
    on_progress: ReportProgress | None = None,
) -> Dataset:
    """Load a data set, its images uint8 at ``image_size`` and its labels int64 class indices.

    Args:
        name: a registered name (:func:`names`), or the path of an ``.npz`` of MedMNIST form or of
            a folder of images.
        root: the data folder; by default ``ENSGAN_DATA``, else ``~/.medmnist``.
        image_size: side of the images, 8…4096 pixels.
        options: settings of the source; ``DATASETS.get(name).options`` lists them.
        seed: of drawn images and random splits, 0 or more.
        on_progress: called with (done, total) during long work.

    Warnings of the source (``Dataset.warnings``: files left out, for example) are logged.

    Raises:
        InputError: an unknown name, unknown options, or data that cannot be used as it is.
    """
    text = str(name)
    if not 8 <= image_size <= MAX_SIZE:
        raise DataError(f"image_size must be 8 to {MAX_SIZE:,} pixels, not {image_size}")
    if seed < 0:
        raise DataError(f"seed must be 0 or more, not {seed}")
    if text in DATASETS:
        source = DATASETS.get(text)
        place = data_root(root) if source.needs_root else Path()
    else:
        place = Path(text).expanduser()
        source = _source_of_path(text, place)
    values = read_options(source.name, source.options, options)
    request = Request(source.name, place, image_size, values, seed, on_progress)
    dataset = source.load(request)
    for text in dataset.warnings:  # a sweep has no report in which they could stand
        _LOG.warning("%s: %s", dataset.name, text)
    return dataset


def locate(
    data: str, data_dir: Path | None = None, options: Mapping[str, Scalar] = MappingProxyType({})
) -> dict[str, Any]:
    """How a sweep names data: ``name``, ``data_dir`` and ``options`` of its dataset section.

    Args:
        data: as for :func:`load_dataset`. A folder whose table has the columns of AIforCOVID is
            that set; a file under an official name is that set of MedMNIST.
        data_dir: the folder of a registered name's files.
        options: settings of the source; those that find the file are added.

    Raises:
        DataError: neither a registered name nor an existing folder or ``.npz`` file.
    """
    if data in DATASETS:
        folder = None if data_dir is None else str(data_dir)
        return {"name": data, "data_dir": folder, "options": dict(options)}
    path = Path(data).expanduser()
    _source_of_path(data, path)
    place = path.resolve()
    if printable(str(place)) != str(place):
        raise DataError(f"{place} is not a UTF-8 name: rename it")
    if place.is_dir():
        name = AIFORCOVID.name if has_prognosis_table(place) else FOLDER.name
        return {"name": name, "data_dir": str(place), "options": dict(options)}
    official = parse_file_name(path.name)
    if official is None:
        name, wanted = NPZ.name, {"file": path.name, **options}
    else:
        name, wanted = official[0], {"source_size": official[1], **options}
    return {"name": name, "data_dir": str(place.parent), "options": wanted}


def _source_of_path(text: str, path: Path) -> Source:
    """The source that reads the file or folder at ``path``."""
    path_kind = kind(path)
    if path_kind == "folder":
        return replace(FOLDER, name=printable(path.resolve().name) or FOLDER.name)
    if path.suffix == ".npz" and path_kind != "special":
        require_file(path)
        return replace(NPZ, name=path.stem, load=load_file, options=FILE_OPTIONS)
    if path_kind != "absent":
        raise DataError(f"{path} is neither a folder nor an .npz file of MedMNIST form")
    if "/" in text:
        raise DataError(f"no such file or folder: {path}")
    refuse_volumes(text)
    unknown = unknown_name("data set", text, names())
    raise DataError(f"{unknown}; there is no such folder or file here, either")
