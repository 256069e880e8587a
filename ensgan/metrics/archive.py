"""Arrays inside an ``.npz``, mapped into memory where they lie: for pools larger than memory."""

from __future__ import annotations

import shutil
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt

from ensgan.errors import DataError
from ensgan.files import atomic_path

_LOCAL_HEADER = 30  # bytes before a zip entry's name; its two lengths are the last four


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
