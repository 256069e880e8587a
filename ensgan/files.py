"""Reading and writing files so that nothing is ever half-written, unpickled or unverified."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ensgan.errors import DataError, EnsganError, IntegrityError, StoreError
from ensgan.inputs import explained, require_expansion, require_file, require_memory

if TYPE_CHECKING:  # numpy comes late: it takes as long as all of `ensgan runs`
    import numpy as np
    import numpy.typing as npt

_NO_ROOM: Final = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))
FULL_BYTES = 1 << 16
"""A disk with less room is full: some file systems keep a few blocks back."""
LARGEST_JSON: Final = 128 << 20
"""Bytes of a JSON file that is read."""
LARGEST_TEXT: Final = 16 << 20
"""Bytes of a text written by hand that is read."""
MISFITS: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""Errors of code that reads fields of a JSON value whose structure is not the expected one."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` in one step.

    The parent folder is created. After an error ``path`` is as it was before. A link stays one:
    the file that it names is replaced.

    Raises:
        StoreError: the folder cannot be written (permission, full disk), or ``path`` is a device,
            a pipe or a folder.
    """
    temporary: Path | None = None
    try:
        if path.is_symlink():
            path = path.resolve()
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            # As root, a rename would put a plain file in the place of /dev/null.
            raise StoreError(f"cannot write {path}: it is no plain file; name another one")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise not_written(path, error.strerror or str(error)) from error
    except Exception as error:
        # torch does not say that the disk is full (here the half-written file still takes its
        # room), safetensors says it in an error of its own.
        reason = next((sign for sign in _NO_ROOM if sign in str(error)), "")
        if isinstance(error, EnsganError) or not (reason or is_full(path.parent)):
            raise
        raise not_written(path, reason or _NO_ROOM[0]) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def not_written(path: Path, reason: str) -> StoreError:
    """The error for a place that cannot be written; it tells a full disk from other reasons."""
    full = reason in _NO_ROOM or is_full(path.parent)
    why = _NO_ROOM[0] if full and reason not in _NO_ROOM else reason
    advice = "make room" if full else "check permissions and free space"
    return StoreError(f"cannot write {path}: {why}; {advice}, then run the same command again")


def is_full(folder: Path) -> bool:
    """Whether the disk of a folder has no room left; False where the system does not tell."""
    try:
        return shutil.disk_usage(folder).free < FULL_BYTES
    except OSError:
        return False


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN and infinity are refused."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a plain file of at most ``limit`` bytes.

    Raises:
        DataError: the file is missing, cannot be read, is no plain file (a device or a pipe may
            never end), or is larger.
    """
    require_file(path)
    with explained(f"{path} cannot be read"), path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"{path} has more than the {limit} bytes that are read of such a file")
    return content


def first_bytes(path: Path, count: int) -> bytes:
    """The beginning of a plain file; empty where it cannot be read."""
    with suppress(DataError, OSError):
        require_file(path)
        with path.open("rb") as stream:
            return stream.read(count)
    return b""


def read_text(path: Path, limit: int = LARGEST_TEXT) -> str:
    """The text of a plain UTF-8 file (with or without a byte order mark).

    Raises:
        DataError: as for :func:`read_bytes`, or the file is not UTF-8.
    """
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: save it as UTF-8 ({error})") from error


def read_json(path: Path, limit: int = LARGEST_JSON) -> Any:
    """Read a JSON file; see :func:`parse_json`.

    Raises:
        DataError: the file is missing, larger than ``limit`` bytes, or is not JSON.
    """
    return parse_json(read_bytes(path, limit), str(path))


def parse_json(content: bytes | str, source: str) -> Any:
    """The value of a JSON text: keys of an object once each, numbers finite.

    Args:
        source: what the text is, for the message.

    Raises:
        DataError: it is not such a text.
    """
    try:
        text = content if isinstance(content, str) else content.decode()
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_finite, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not readable JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        # Readers differ in which of them they take.
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{repeated[:80]}' occurs twice")
    return values


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:80]} is no finite number")
    return value


def read_npz(
    path: Path, required: Sequence[str] = (), *, only: bool = False
) -> dict[str, npt.NDArray[Any]]:
    """Read every array of an ``.npz`` file, or ``only`` those required; never unpickling anything.

    Raises:
        DataError: missing, truncated or not an ``.npz`` file, object arrays, a missing key, or
            arrays that unpack to far more than the file or than the memory holds.
    """
    import numpy as np

    require_file(path)
    with explained(f"{path} cannot be read as .npz (truncated or corrupt?)"):
        # Mapped: a single array, which this is not for, may be larger than the memory.
        loaded = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is a single array, not an .npz archive")
        with loaded as archive:
            require_expansion(path, archive.zip.infolist() if archive.zip else ())
            wanted = [name for name in archive.files if name in required or not only]
            arrays = {name: _whole_array(path, archive, name) for name in wanted}
    missing = [name for name in required if name not in arrays]
    if missing:
        raise DataError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing'}"
        )
    return arrays


def _whole_array(path: Path, archive: np.lib.npyio.NpzFile, name: str) -> npt.NDArray[Any]:
    """An array whose header announces exactly the bytes behind it: numpy believes any.

    Raises:
        DataError: it announces more or less, or endless values of no bytes.
        ValueError: it is no array.
    """
    import numpy as np

    members = archive.zip
    assert members is not None  # it is once the file is closed
    entry = members.getinfo(name if name in members.namelist() else f"{name}.npy")
    with members.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0}
        shape, _, kind = header.get(version, np.lib.format.read_array_header_2_0)(stream)
        held = entry.file_size - stream.tell()
    count = math.prod(shape)
    if not kind.hasobject and (count * kind.itemsize != held or count > held):
        raise DataError(
            f"{path}: the array '{name[:80]}' announces {list(shape)} values of type {kind}, "
            f"which its {held} bytes do not hold"
        )
    array = np.asarray(archive[name])
    if kind.kind == "U":
        array.tolist()  # numpy takes any number for a character; Python stumbles over it later
    return array


def map_array(path: Path, *, larger: bool = False) -> npt.NDArray[Any]:
    """Map the array of an ``.npy`` file into memory, never unpickling anything.

    Args:
        path: the file.
        larger: it may be larger than the memory, because it is read piece by piece.

    Raises:
        DataError: missing, truncated, not an ``.npy`` file, objects, or larger than the memory.
    """
    import numpy as np

    require_file(path)
    with explained(f"{path} cannot be read as .npy (truncated, or objects?)"):
        with path.open("rb") as stream:
            if stream.read(6) != b"\x93NUMPY":
                raise DataError(f"{path} is not an .npy file: save it with numpy.save")
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    if not larger:
        require_memory(array.nbytes, str(path))
    return np.asanyarray(array)


def write_npz(path: Path, **arrays: npt.ArrayLike) -> None:
    """Write arrays to an ``.npz`` file atomically."""
    import numpy as np

    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content; see :func:`file_digest`."""
    return file_digest(path, hashlib.sha256())


def file_digest(path: Path, digest: hashlib._Hash) -> str:
    """Hexadecimal digest of a file's content, by a new hash object.

    Raises:
        DataError: the file is missing, cannot be read, or is no plain file.
    """
    require_file(path)
    with explained(f"{path} cannot be read"), path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def seal(path: Path) -> None:
    """Write the SHA-256 of a result into a mark beside it, ``NAME.sha256``."""
    write_bytes(path.with_suffix(".sha256"), f"{sha256_file(path)}\n".encode())


def is_whole(path: Path) -> bool:
    """Whether a file is there as :func:`seal` saw it; one of an early version has no mark."""
    mark = path.with_suffix(".sha256")
    try:
        if not mark.exists():
            return path.is_file()
        return read_text(mark).strip() == sha256_file(path)
    except (DataError, OSError):
        return False


def require_whole(path: Path) -> Path:
    """A result that is used after its sweep.

    Raises:
        IntegrityError: it was cut off, replaced or deleted since it was made.
    """
    if not is_whole(path):
        raise IntegrityError(
            f"{path} has changed since it was made: run `ensgan sweep` again, which makes it anew"
        )
    return path


def sha256_arrays(*arrays: npt.NDArray[Any]) -> str:
    """Hexadecimal SHA-256 of arrays: their types, shapes and bytes."""
    import numpy as np

    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def content_key(*parts: Any) -> str:
    """A 16-digit key of JSON-able values: equal content gives equal keys in any process."""
    canonical = json.dumps(
        parts, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
