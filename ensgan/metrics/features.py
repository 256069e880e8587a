"""Feature sets as given by users, in memory or in files: checked, and copied only where needed.

A pool is one ``.npz`` or a folder of ``.npy`` files, mapped rather than read.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from ensgan.errors import DataError, InputError
from ensgan.files import atomic_path, map_array, read_npz
from ensgan.inputs import explained, require_expansion, require_file
from ensgan.types import Float64Array

FeatureArray: TypeAlias = npt.NDArray[np.floating[Any]]
FeatureSource: TypeAlias = npt.NDArray[Any] | torch.Tensor | Callable[[], Any]
"""An array or tensor [n,D], memory-mapped or not, or a function that returns one when called."""
PoolLabels: TypeAlias = tuple[npt.ArrayLike, Sequence[npt.ArrayLike]]
"""Class of every real point [N], and of every point of each member [S_g]: whole numbers."""

_PIECE_BYTES = 1 << 20  # of float64, so that a pass works in the cache
_LARGEST = 1e300  # beyond it, differences of two values might overflow
_FARTHEST = 1000  # 2^±1000 and what it scales to 1 are ordinary floats
_NEEDED = ("real", "fake", "names")
_LABELS = ("real_labels", "fake_labels")


def open_features(source: FeatureSource, name: str) -> FeatureArray:
    """The features [n,D] of one set as float16, float32 or float64; a memory map stays one.

    Raises:
        DataError: not two-dimensional, empty, or not numbers.
    """
    value = source() if callable(source) else source
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    array = np.asarray(value) if not isinstance(value, np.memmap) else value
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(
            f"{name}: features must be [points, dimensions] with at least one of each, "
            f"not {list(array.shape)}"
        )
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise DataError(f"{name}: features must be float16, float32 or float64, not {array.dtype}")
    return array


def pieces(features: FeatureArray) -> Iterator[tuple[int, FeatureArray]]:
    """Runs of rows of a megabyte with their first index, so that no pass copies a whole set."""
    rows = max(1, _PIECE_BYTES // (8 * features.shape[1]))
    for start in range(0, len(features), rows):
        yield start, features[start : start + rows]


def open_checked(
    source: FeatureSource, name: str, k: int, dim: int | None = None, *, least: int | None = None
) -> FeatureArray:
    """:func:`open_features`; refuses what cannot be scored.

    Args:
        source: of [n,D].
        name: name of the set, for messages.
        k: neighbour that sets the radius.
        dim: dimensions expected.
        least: points needed, k+1 unless told (a set without balls needs one).

    Raises:
        InputError: k < 1, other dimensions than ``dim``, too few points, NaN or infinity, values
            beyond 1e300.
    """
    features = open_features(source, name)
    if k < 1:
        raise InputError(f"k is {k}: the radius needs a neighbour, so k must be at least 1")
    if dim is not None and features.shape[1] != dim:
        raise DataError(
            f"{name} has {features.shape[1]} dimensions, the real features have {dim}: embed both "
            "with the same extractor"
        )
    if len(features) < (k + 1 if least is None else least):
        raise DataError(
            f"{name} has {len(features)} points; k = {k} needs at least {k + 1}: "
            "bring more points or lower k"
        )
    (largest,) = deviations(features, 0.0)
    if np.isfinite(largest):
        if largest > _LARGEST:
            raise DataError(
                f"{name} has values of up to {largest:.2g}, and {_LARGEST:.0e} is the largest that "
                "can be scored: divide the features of all sets by the same power of two"
            )
        return features
    finite = np.isfinite(features)
    bad, rows = np.count_nonzero(~finite), np.count_nonzero(~finite.all(axis=1))
    raise DataError(
        f"{name} has {bad} NaN or infinite values in {rows} of its {len(features)} points: "
        "check the generator or the extractor, or drop these points"
    )


def robust_centre(features: FeatureArray) -> Float64Array:
    """Coordinate-wise median of at most 256 evenly spaced points, float64 [D].

    A median, so that one point far away does not move the origin away from all others.
    """
    step = -(-len(features) // 256)
    return np.asarray(np.median(np.asarray(features[::step], np.float64), axis=0))


def deviations(features: FeatureArray, *centres: Float64Array | float) -> list[float]:
    """Largest |coordinate − centre| of any point, for each centre; not finite if a value is not."""
    ends = [(piece.min(axis=0), piece.max(axis=0)) for _, piece in pieces(features)]
    low, high = (np.asarray(part, np.float64) for part in zip(*ends, strict=True))
    extent = np.stack((low.min(axis=0), high.max(axis=0)))
    return [float(np.abs(extent - centre).max()) for centre in centres]


@dataclass(frozen=True)
class Frame:
    """Origin and power of two that bring all sets near 1, so that float32 products are accurate.

    A point x becomes (x − centre)·2^−exponent; distances scale by 2^−exponent exactly.
    """

    centre: Float64Array
    exponent: int

    @classmethod
    def spanning(cls, centre: Float64Array, largest: float) -> Frame:
        """The frame in which the largest coordinate lies in [½, 1), near it for extreme ones."""
        exponent = int(np.frexp(largest)[1]) if largest > 0 else 0
        return cls(centre, int(np.clip(exponent, -_FARTHEST, _FARTHEST)))

    def place(self, features: FeatureArray) -> Float64Array:
        """Points in this frame, float64 [n,D]; one rounding each, whatever the offset."""
        placed = np.subtract(features, self.centre, dtype=np.float64)
        placed *= 2.0**-self.exponent
        return placed


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
