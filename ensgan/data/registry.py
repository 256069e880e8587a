"""The data sets by name, and the one way to load them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from ensgan.data import aiforcovid, archive, folder, medmnist, medmnist_table, phantom
from ensgan.data.records import inside
from ensgan.data.request import (
    Option,
    ReportProgress,
    Request,
    Scalar,
    data_root,
    read_options,
)
from ensgan.errors import DataError, unknown_name
from ensgan.types import Dataset


@dataclass(frozen=True)
class Source:
    """One registered data set.

    Attributes:
        name: how a sweep names it.
        summary: one line about it.
        load: makes the data set from a checked request.
        options: the settings it takes.
        needs_root: whether it reads the data folder.
    """

    name: str
    summary: str
    load: Callable[[Request], Dataset]
    options: tuple[Option, ...] = ()
    needs_root: bool = True


def _table(sources: Iterable[Source]) -> Mapping[str, Source]:
    table: dict[str, Source] = {}
    for source in sources:
        if source.name in table:
            raise ValueError(f"data set '{source.name}' is registered twice")
        table[source.name] = source
    return MappingProxyType(table)


def _load_npz(request: Request) -> Dataset:
    """A file by its path: under an official name it gets that set's class names and licence."""
    official = medmnist_table.parse_file_name(request.root.name)
    if official is None:
        return archive.load(request)
    arrays = archive.read_arrays(request.root)
    accepted = request.text("accept_checksum")
    if accepted is not None:
        archive.require_checksum(request.root, accepted, official=None)
    return medmnist.assemble(request.root, arrays, medmnist.set_info(*official), request)


def _load_named_npz(request: Request) -> Dataset:
    name = request.text("file")
    if name is None:
        raise DataError("data set 'npz' needs the option file: the name of a file in data_dir")
    path = inside(request.root, name)
    if path is None:
        raise DataError(f"option file must name a file inside {request.root}, not '{name}'")
    return _load_npz(replace(request, name=path.stem, root=path))


SOURCES: Mapping[str, Source] = _table(
    (
        Source(
            "phantom",
            "procedural grey chest phantoms, two classes, twelve known modes",
            phantom.load,
            phantom.OPTIONS,
            needs_root=False,
        ),
        Source(
            "folder",
            "images in class folders, or with a labels.csv; data_dir is the folder",
            folder.load,
            folder.OPTIONS,
        ),
        Source(
            "npz",
            "a file of MedMNIST form in data_dir, named by the option file",
            _load_named_npz,
            (Option("file", str, None, "the file's name"), *archive.OPTIONS),
        ),
        Source(
            "aiforcovid",
            "AIforCOVID: chest X-rays in DICOM with a label table; data_dir is the folder",
            aiforcovid.load,
            aiforcovid.OPTIONS,
        ),
        *(
            Source(name, "MedMNIST v2", medmnist.load, medmnist.OPTIONS)
            for name in medmnist_table.NAMES
        ),
    )
)


def names() -> tuple[str, ...]:
    """Names of all registered data sets."""
    return tuple(SOURCES)


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
        image_size: side of the images, pixels.
        options: settings of the source; ``SOURCES[name].options`` lists them.
        seed: of drawn images and random splits.
        on_progress: called with (done, total) during long work.

    Raises:
        InputError: an unknown name, unknown options, or data that cannot be used as it is.
    """
    text = str(name)
    if image_size < 8:
        raise DataError(f"image_size must be at least 8 pixels, not {image_size}")
    source = SOURCES.get(text)
    if source is not None:
        place = data_root(root) if source.needs_root else Path()
    else:
        place = Path(text).expanduser()
        source = _source_of_path(text, place)
    values = read_options(source.name, source.options, options)
    request = Request(source.name, place, image_size, values, seed, on_progress)
    return source.load(request)


def _source_of_path(text: str, path: Path) -> Source:
    """The source that reads the file or folder at ``path``."""
    if path.suffix == ".npz":
        if not path.exists():
            raise DataError(f"no such file: {path}")
        return Source(path.stem, "a file of MedMNIST form", _load_npz, archive.OPTIONS)
    if path.is_dir():
        return Source(path.resolve().name, "a folder of images", folder.load, folder.OPTIONS)
    if path.exists():
        raise DataError(f"{path} is neither a folder nor an .npz file of MedMNIST form")
    if "/" in text:
        raise DataError(f"no such file or folder: {path}")
    raise DataError(unknown_name("data set", text, SOURCES))
