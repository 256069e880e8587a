"""Feature files of a pool: one ``.npz``, or a folder of ``.npy`` files, mapped rather than read."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ensgan.errors import DataError
from ensgan.files import atomic_path, map_array, read_npz
from ensgan.inputs import explained, require_expansion, require_file
from ensgan.metrics.features import FeatureSource, PoolLabels

_NEEDED = ("real", "fake", "names")
_LABELS = ("real_labels", "fake_labels")


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
    """Map an ``.npy`` file [n,D] into memory; it may be larger.

    Raises:
        DataError: missing, not ``.npy``, truncated, or it would need unpickling.
    """
    return map_array(Path(path), larger=True)


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
        scratch: folder for the arrays of an archive that is larger than ``memory_bytes``: it is
            unpacked there and mapped into memory, not read.

    Raises:
        DataError: missing files or arrays, other shapes.
    """
    path = Path(path)
    return _from_folder(path) if path.is_dir() else _from_npz(path, scratch, memory_bytes)


def _from_npz(path: Path, scratch: Path | None, memory_bytes: int) -> PoolFeatures:
    real: FeatureSource
    if scratch is None or _archive_bytes(path) <= memory_bytes:
        arrays = read_npz(path, _NEEDED)
        real, fake = arrays["real"], arrays["fake"]
        sources: tuple[FeatureSource, ...] = tuple(np.atleast_1d(fake))
    else:
        parts, arrays = _unpacked(path, scratch)
        real, fake = partial(load_array, parts["real"]), load_array(parts["fake"])
        sources = tuple(partial(_row, parts["fake"], index) for index in range(len(fake)))
    with explained(f"{path}: names"):  # bytes among them, where they are ASCII
        names = [str(name) for name in np.atleast_1d(arrays["names"]).astype(str)]
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


def _row(path: Path, index: int) -> npt.NDArray[Any]:
    row: npt.NDArray[Any] = load_array(path)[index]
    return row


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


def _archive_bytes(path: Path) -> int:
    """Bytes of all arrays of an ``.npz`` when unpacked; 0 where it cannot be read as one.

    Raises:
        DataError: no plain file (a pipe would be waited for).
    """
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return 0


def _unpacked(path: Path, folder: Path) -> tuple[dict[str, Path], dict[str, npt.NDArray[Any]]]:
    """Files of ``folder`` with the features of an ``.npz``, and its small arrays.

    The files can be mapped into memory; the archive's checksums are compared on the way.

    Raises:
        DataError: truncated or damaged, or an array is missing.
    """
    files = {name: folder.resolve() / f"features-{name}.npy" for name in ("real", "fake")}
    with (
        explained(f"{path} cannot be read as .npz (truncated or corrupt?)"),
        np.load(path, allow_pickle=False) as archive,
    ):
        missing = [name for name in _NEEDED if name not in archive.files]
        if missing:
            raise DataError(
                f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(archive.files))}"
            )
        require_expansion(path, archive.zip.infolist(), to_disk=True)
        for name, file in files.items():
            with (
                archive.zip.open(f"{name}.npy") as packed,
                atomic_path(file) as temporary,
                temporary.open("wb") as unpacked,
            ):
                shutil.copyfileobj(packed, unpacked, 1 << 20)
        small = [name for name in ("names", "extractor", *_LABELS) if name in archive.files]
        return files, {name: archive[name] for name in small}
