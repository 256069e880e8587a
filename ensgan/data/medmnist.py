"""The 2-D sets of MedMNIST v2 (Yang et al., Scientific Data 2023), and ``.npz`` of their form.

The files are read with NumPy. Only names and sizes are kept here; labels, licences, addresses and
checksums come from the medmnist package, whose table is read when a set is loaded.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ensgan.data.archive import FILE_OPTIONS, download, read_arrays, reduce_labels, require_checksum
from ensgan.data.prepare import resize, with_channels
from ensgan.data.request import SPLITS, Option, Request, Source
from ensgan.errors import DataError
from ensgan.inputs import kind, run_python
from ensgan.types import Dataset, Samples

NAMES = (
    "bloodmnist",
    "breastmnist",
    "chestmnist",
    "dermamnist",
    "octmnist",
    "organamnist",
    "organcmnist",
    "organsmnist",
    "pathmnist",
    "pneumoniamnist",
    "retinamnist",
    "tissuemnist",
)

SIZES = (28, 64, 128, 224)
"""Sides in pixels at which every set is published."""

OPTIONS = (
    Option(
        "source_size",
        int,
        None,
        "published size to start from, pixels (default: the smallest not below image_size, or 28 "
        "for an image_size up to 32)",
        choices=SIZES,
    ),
    Option("download", bool, True, "fetch a missing file from the publisher"),
    *FILE_OPTIONS,
)

_NEARLY = 32 / 28  # 28 px files serve the paper's 32 px


@dataclass(frozen=True)
class SetInfo:
    """What the medmnist package knows about one file of a set."""

    file_name: str
    url: str
    md5: str
    class_names: tuple[str, ...]
    licence: str

    @property
    def manual_route(self) -> str:
        """How to get the file by hand."""
        return f"download {self.url} as {self.file_name} (MD5 {self.md5})"


def file_name(name: str, size: int) -> str:
    """The official file name of a set at one of :data:`SIZES`."""
    return f"{name}.npz" if size == 28 else f"{name}_{size}.npz"


def parse_file_name(text: str) -> tuple[str, int] | None:
    """The set and size an official file name stands for, or None."""
    return {file_name(name, size): (name, size) for name in NAMES for size in SIZES}.get(text)


def refuse_volumes(name: str) -> None:
    """Refuse the 3-D sets (``organmnist3d`` and five others), which are volumes.

    Raises:
        DataError: the name is that of a 3-D set.
    """
    text = name.lower()
    if text.endswith("mnist3d"):
        raise DataError(
            f"'{name}' is a set of volumes: ensgan works on 2-D images; choose one of the 2-D sets "
            f"({', '.join(NAMES)}), or save slices as images and name their folder"
        )


def set_info(name: str, size: int = 28) -> SetInfo:
    """Address, checksum, labels and licence of a set at a published size."""
    info = _package_table()[name]
    suffix = "" if size == 28 else f"_{size}"
    labels = info["label"]
    return SetInfo(
        file_name(name, size),
        info[f"url{suffix}"],
        info[f"MD5{suffix}"],
        tuple(labels[str(index)] for index in range(len(labels))),
        info["license"],
    )


@cache
def _package_table() -> dict[str, Any]:
    """The medmnist package's table of sets.

    Only its file ``info.py`` is run: importing the whole package takes seconds, because it
    brings in torch, pandas and scikit-learn.

    Raises:
        DataError: the package is not installed.
    """
    package = importlib.util.find_spec("medmnist")
    folders = package.submodule_search_locations if package is not None else None
    if not folders:
        raise DataError("the medmnist package is not installed: pip install medmnist")
    table: dict[str, Any] = run_python(Path(folders[0]) / "info.py", "medmnist_info").INFO
    return table


def source_size(image_size: int) -> int:
    """The published size that images of ``image_size`` are made from by default."""
    fitting = [size for size in SIZES if image_size <= size * (_NEARLY if size == 28 else 1)]
    return fitting[0] if fitting else SIZES[-1]


def load(request: Request) -> Dataset:
    """Read a set from the data folder, fetching it first when it is not there.

    Raises:
        DataError: no file and no download, or a file of another form.
        IntegrityError: the checksum is not the official one and was not accepted.
    """
    size = request.number("source_size") or source_size(request.image_size)
    info = set_info(request.name, size)
    path = request.root / info.file_name
    if kind(path) == "absent":
        _fetch(path, info, request)
    arrays = read_arrays(path)
    require_checksum(path, request.text("accept_checksum"), info.md5)
    return _assemble(path, arrays, info, request)


def load_file(request: Request) -> Dataset:
    """Read the file ``request.root``: under an official name it gets that set's class names.

    Raises:
        DataError: a file of another form.
        IntegrityError: it is not the file that was accepted.
    """
    path = request.root
    arrays = read_arrays(path)
    accepted = request.text("accept_checksum")
    if accepted is not None:
        require_checksum(path, accepted, official=None)
    official = parse_file_name(path.name)
    return _assemble(path, arrays, set_info(*official) if official else None, request)


def _load_npz(request: Request) -> Dataset:
    """The file that the option ``file`` names."""
    path = request.place("file")
    if path is None:
        raise DataError("data set 'npz' needs the option file: the name of a file in data_dir")
    return load_file(replace(request, name=path.stem, root=path))


def _assemble(
    path: Path, arrays: dict[str, npt.NDArray[Any]], info: SetInfo | None, request: Request
) -> Dataset:
    """The data set made of a file's arrays, with the labels and licence of ``info``."""
    known = info.class_names if info else ()
    labels, names = reduce_labels(arrays, known, str(request.option("target")), path)
    splits, side = {}, arrays["train_images"].shape[1]
    for split in SPLITS:
        images = with_channels(arrays[f"{split}_images"], request.number("channels"))
        report = request.on_progress if split == "train" else None
        splits[split] = Samples(resize(images, request.image_size, report), labels[split])
    return Dataset(
        request.name,
        splits["train"],
        splits["val"],
        splits["test"],
        names,
        licence=info.licence if info else "",
        source=f"MedMNIST v2, {info.url}" if info else path.name,
        source_sizes={f"{side}×{side}": sum(map(len, splits.values()))},
    )


def _fetch(path: Path, info: SetInfo, request: Request) -> None:
    if not request.options["download"]:
        raise DataError(
            f"{path} does not exist and downloads are off: {info.manual_route} and put it "
            f"into {path.parent}, or name its folder with --data-dir or ENSGAN_DATA"
        )
    try:
        download(info.url, path, md5=info.md5, on_progress=request.on_progress)
    except DataError as error:
        raise DataError(
            f"{path} does not exist and could not be downloaded ({error}): {info.manual_route} "
            f"by hand and put it into {path.parent}, or name its folder with --data-dir or "
            "ENSGAN_DATA"
        ) from error


MEDMNIST = tuple(Source(name, "MedMNIST v2", load, OPTIONS) for name in NAMES)
NPZ = Source(
    "npz",
    "a file of MedMNIST form in data_dir, named by the option file",
    _load_npz,
    (Option("file", str, None, "the file's name"), *FILE_OPTIONS),
)
