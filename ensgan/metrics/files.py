"""Feature files of a pool: one ``.npz``, or a folder of ``.npy`` files, mapped rather than read."""

from __future__ import annotations

import shutil
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt

from ensgan.errors import DataError
from ensgan.files import atomic_path, read_npz
from ensgan.metrics.features import FeatureSource, PoolLabels

_LABELS = ("real_labels", "fake_labels")
_LOCAL_HEADER = 30  # bytes before a zip entry's name; its two lengths are the last four


@dataclass(frozen=True)
class PoolFeatures:
    """The real features, one source per member, and the members' names.

    ``contents``: content keys of the real set and of each member where they are known already;
    ``held_out``: features of real images that no generator was trained on, if there are any;
    ``labels``: classes of all points, where they are known.
    """

    real: FeatureSource
    fakes: tuple[FeatureSource, ...]
    names: tuple[str, ...]
    extractor: str = ""
    contents: tuple[str, ...] = ()
    held_out: FeatureSource | None = None
    labels: PoolLabels | None = None

    def on_disk(self, folder: Path) -> PoolFeatures:
        """The same pool with every array in a file of ``folder``, so that tasks pass paths only."""

        def stored(source: FeatureSource, index: int) -> FeatureSource:
            if not isinstance(source, np.ndarray):
                return source
            path = folder.resolve() / f"features-{index}.npy"
            with atomic_path(path) as temporary:
                np.save(temporary, source)
            return partial(load_array, path)

        fakes = tuple(stored(source, index) for index, source in enumerate(self.fakes, start=1))
        return replace(self, real=stored(self.real, 0), fakes=fakes)


def load_array(path: str | Path) -> npt.NDArray[Any]:
    """Map an ``.npy`` file [n,D] into memory.

    Raises:
        DataError: missing, not ``.npy``, truncated, or it would need unpickling.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            if stream.read(6) != b"\x93NUMPY":
                raise DataError(f"{path} is not an .npy file: save features with numpy.save")
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read as .npy (truncated or corrupt?): {error}"
        ) from error


def load_pool(
    path: str | Path, *, scratch: Path | None = None, memory_bytes: int = 2 << 30
) -> PoolFeatures:
    """Features of a pool from ``features.npz`` or from a folder.

    ``features.npz`` holds ``real`` [N,D], ``fake`` [M,S,D] and ``names`` [M], and may hold
    ``real_labels`` [N] and ``fake_labels`` [M,S]. A folder holds
    ``real.npy`` and ``NAME.npy`` files, or ``real/`` and ``fake/NAME/`` with one or more ``.npy``
    files each (joined in the order of their names).

    Args:
        path: file or folder.
        scratch: folder that may hold unpacked arrays of a compressed archive.
        memory_bytes: an archive larger than this is mapped into memory, not read.

    Raises:
        DataError: missing files or arrays, other shapes.
    """
    path = Path(path)
    return _from_folder(path) if path.is_dir() else _from_npz(path, scratch, memory_bytes)


def _from_npz(path: Path, scratch: Path | None, memory_bytes: int) -> PoolFeatures:
    real: FeatureSource
    if scratch is None or archive_bytes(path) <= memory_bytes:
        arrays = read_npz(path, ("real", "fake", "names"))
        real, fake = arrays["real"], arrays["fake"]
        sources: tuple[FeatureSource, ...] = tuple(np.atleast_1d(fake))
    else:
        parts = open_archive(path, ("real", "fake"), scratch)
        real, fake = parts["real"], parts["fake"]()
        sources = tuple(replace(parts["fake"], index=index) for index in range(len(fake)))
        with np.load(path, allow_pickle=False) as archive:
            small = ("names", "extractor", *_LABELS)
            arrays = {name: archive[name] for name in small if name in archive}
        if "names" not in arrays:
            raise DataError(f"{path} lacks names")
    names = [str(name) for name in np.atleast_1d(arrays["names"])]
    if fake.ndim != 3 or len(fake) != len(names):
        raise DataError(
            f"{path}: fake must be [members, points, dimensions] with one name per member, not "
            f"{list(fake.shape)} with {len(names)} names"
        )
    labels = None
    if all(name in arrays for name in _LABELS):
        labels = arrays[_LABELS[0]], list(arrays[_LABELS[1]])
    extractor = str(arrays.get("extractor", ""))
    return PoolFeatures(real, sources, tuple(names), extractor, labels=labels)


def _from_folder(folder: Path) -> PoolFeatures:
    if (folder / "real.npy").is_file():
        members = {
            file.stem: [file] for file in sorted(folder.glob("*.npy")) if file.stem != "real"
        }
        real = [folder / "real.npy"]
    elif (folder / "real").is_dir() and (folder / "fake").is_dir():
        members = {
            part.name: sorted(part.glob("*.npy"))
            for part in sorted((folder / "fake").iterdir())
            if part.is_dir()
        }
        real = sorted((folder / "real").glob("*.npy"))
    else:
        raise DataError(
            f"{folder} holds neither real.npy with NAME.npy files nor real/ with fake/NAME/ folders"
        )
    empty = [name for name, files in (("real", real), *members.items()) if not files]
    if empty or not members:
        raise DataError(f"{folder} has no .npy features for {', '.join(empty) or 'any member'}")
    return PoolFeatures(
        partial(_joined, real),
        tuple(partial(_joined, files) for files in members.values()),
        tuple(members),
    )


def _joined(files: Sequence[Path]) -> npt.NDArray[Any]:
    arrays = [load_array(file) for file in files]
    if len(arrays) == 1:
        return arrays[0]
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) > 1:
        raise DataError(f"{files[0].parent}: files differ in dimensions: {sorted(shapes)}")
    return np.concatenate(arrays)


@dataclass(frozen=True)
class ArchivePart:
    """An array of an archive, opened by a call; small to pickle.

    Attributes:
        path: the file.
        offset: where the array's ``.npy`` begins in it.
        index: which row of it is meant, None for all.
    """

    path: Path
    offset: int
    index: int | None = None

    def __call__(self) -> npt.NDArray[Any]:
        """The array as a memory map.

        Raises:
            DataError: an object array, or no array at all.
        """
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.offset)
                version = npy.read_magic(stream)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, fortran, dtype = read(stream)
                start = stream.tell()
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} cannot be mapped: {error}") from error
        if dtype.hasobject:
            raise DataError(f"{self.path} holds Python objects, which are never unpickled")
        mapped = np.memmap(self.path, dtype, "r", start, shape, "F" if fortran else "C")
        return mapped if self.index is None else mapped[self.index]


def archive_bytes(path: Path) -> int:
    """Bytes of all arrays of an ``.npz`` when unpacked; 0 where it cannot be read as one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return 0


def open_archive(path: Path, wanted: Sequence[str], scratch: Path) -> dict[str, ArchivePart]:
    """Some arrays of an ``.npz``; compressed ones are unpacked into ``scratch`` first.

    Every byte of them is read once, so that the archive's checksums are compared.

    Raises:
        DataError: missing, truncated or damaged, or an array is missing.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            missing = [name for name in wanted if name not in held]
            if missing:
                raise DataError(
                    f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(held))}"
                )
            return {name: _part(path, archive, held[name], scratch) for name in wanted}
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}") from error
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise DataError(
            f"{path} cannot be read as .npz (truncated or corrupt?): {error}"
        ) from error


def _part(
    path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, scratch: Path
) -> ArchivePart:
    with archive.open(entry) as stream:
        if entry.compress_type == zipfile.ZIP_STORED:
            while stream.read(1 << 20):
                pass
            return ArchivePart(path.resolve(), _start(path, entry.header_offset))
        target = scratch.resolve() / f"features-{Path(entry.filename).name}"
        with atomic_path(target) as temporary, temporary.open("wb") as unpacked:
            shutil.copyfileobj(stream, unpacked, 1 << 20)
        return ArchivePart(target, 0)


def _start(path: Path, header: int) -> int:
    """Where the content of a stored zip entry begins."""
    with path.open("rb") as stream:
        stream.seek(header)
        name, extra = struct.unpack("<HH", stream.read(_LOCAL_HEADER)[-4:])
    return header + _LOCAL_HEADER + int(name) + int(extra)
