"""The data sets by name, and the one way to load them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ensgan.data import archive, medmnist, medmnist_table, phantom
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


SOURCES: Mapping[str, Source] = _table(
    (
        Source(
            "phantom",
            "procedural grey chest phantoms, two classes, twelve known modes",
            phantom.load,
            phantom.OPTIONS,
            needs_root=False,
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
        name: a registered name (:func:`names`), or the path of an ``.npz`` of MedMNIST form.
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
        folder = data_root(root) if source.needs_root else Path()
    else:
        folder = Path(text).expanduser()
        source = _source_of_path(text, folder)
    values = read_options(source.name, source.options, options)
    request = Request(source.name, folder, image_size, values, seed, on_progress)
    return source.load(request)


def _source_of_path(text: str, path: Path) -> Source:
    """The source that reads the file or folder at ``path``."""
    if path.suffix == ".npz":
        if not path.exists():
            raise DataError(f"no such file: {path}")
        return Source(path.stem, "a file of MedMNIST form", _load_npz, archive.OPTIONS)
    if path.exists() or "/" in text:
        if path.exists():
            raise DataError(f"{path} is not an .npz file of MedMNIST form")
        raise DataError(f"no such file or folder: {path}")
    raise DataError(unknown_name("data set", text, SOURCES))


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
