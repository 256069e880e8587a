"""Reading and writing files so that nothing is ever half-written, unpickled or unverified."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ensgan.errors import DataError, EnsganError, InputError, StoreError

CACHE_VARIABLE = "ENSGAN_CACHE"
"""Environment variable that names the cache folder."""
LIMIT_VARIABLE = "ENSGAN_CACHE_GB"
"""Environment variable: most gigabytes of cached features, and as many of decoded images."""
DEFAULT_LIMIT_GB = 10.0
STALE_SECONDS = 86_400.0
"""A half-written cache file of this age was left by a process that was killed."""
FULL_BYTES = 1 << 16
"""A disk with less room is full: some file systems keep a few blocks back."""


def cache_folder() -> Path:
    """``ENSGAN_CACHE``, else ``$XDG_CACHE_HOME/ensgan``, else ``~/.cache/ensgan``."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ensgan"


def cache_limit() -> int:
    """Bytes that each kind of cached result may take, from ``ENSGAN_CACHE_GB``; 0 keeps none.

    Raises:
        InputError: it is set to something else than a number from 0 on.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip() or str(DEFAULT_LIMIT_GB)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < float("inf"):
        raise InputError(f"{LIMIT_VARIABLE} is '{text}': give gigabytes, 0 or more, e.g. 10")
    return int(gigabytes * 1e9)


def read_cached(path: Path, required: Sequence[str]) -> dict[str, npt.NDArray[Any]] | None:
    """A cached ``.npz``, which counts as used now; None when it is absent or damaged.

    Another process may remove it at any moment: one that has begun to read reads on.
    """
    try:
        arrays = read_npz(path, required)
    except DataError:
        return None
    with suppress(OSError):
        os.utime(path)
    return arrays


def write_cached(path: Path, **arrays: npt.ArrayLike) -> None:
    """Write an ``.npz`` into a cache folder and remove what was not used for the longest time
    until the folder is within :func:`cache_limit`; a disk that cannot be written is no error."""
    limit = cache_limit()
    if limit == 0:
        return
    with suppress(StoreError):
        write_npz(path, **arrays)
        trim_cache(path.parent, limit, keep=path)


def trim_cache(folder: Path, limit: int, keep: Path | None = None) -> list[Path]:
    """Remove cached files, the longest unused first, until the rest is within ``limit`` bytes.

    Args:
        folder: its ``.npz`` files count, those below it do not.
        limit: bytes.
        keep: a file that stays, whatever its size.

    Returns:
        The files removed here; other processes may do the same at the same time.
    """
    found = []
    for path in folder.glob("*.npz"):
        with suppress(OSError):  # removed by another process
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in found)
    removed = []
    for used, size, path in sorted(found):
        is_stale = path.name.startswith(".") and time.time() - used / 1e9 > STALE_SECONDS
        if path == keep or not (is_stale or (total > limit and not path.name.startswith("."))):
            continue
        total -= size
        with suppress(OSError):
            path.unlink()
            removed.append(path)
    return removed


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` in one step.

    The parent folder is created. After an error ``path`` is as it was before.

    Raises:
        StoreError: the folder cannot be written (permission, full disk).
    """
    temporary: Path | None = None
    try:
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
        raise _not_written(path, error.strerror or str(error)) from error
    except Exception as error:
        # torch says nothing of a full disk (the half-written file still takes its part of it
        # here), safetensors says it in an error of its own.
        full = os.strerror(errno.ENOSPC)
        if isinstance(error, EnsganError) or not (full in str(error) or is_full(path.parent)):
            raise
        raise _not_written(path, full) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _not_written(path: Path, reason: str) -> StoreError:
    full = os.strerror(errno.ENOSPC)
    if reason == full or is_full(path.parent):
        return StoreError(
            f"cannot write {path}: {full}; make room, then run the same command again"
        )
    return StoreError(
        f"cannot write {path}: {reason}; check permissions and free space, then run the same "
        "command again"
    )


def is_full(folder: Path) -> bool:
    """No room is left on the disk of a folder (False where nobody can say)."""
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


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}") from error
    except RecursionError as error:
        raise DataError(f"{path} is not readable JSON: it is nested too deeply") from error
    except (OSError, ValueError) as error:  # not UTF-8, not JSON, a number of 5,000 digits
        raise DataError(f"{path} is not readable JSON: {error}") from error


def read_npz(path: Path, required: Sequence[str] = ()) -> dict[str, npt.NDArray[Any]]:
    """Read every array of an ``.npz`` file, never unpickling anything.

    Raises:
        DataError: missing, truncated or not an ``.npz`` file, object arrays, or a missing key.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is a single array, not an .npz archive")
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}") from error
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        # A header may promise an array that no memory holds.
        raise DataError(
            f"{path} cannot be read as .npz (truncated or corrupt?): {error}"
        ) from error
    missing = [name for name in required if name not in arrays]
    if missing:
        raise DataError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing'}"
        )
    return arrays


def write_npz(path: Path, **arrays: npt.ArrayLike) -> None:
    """Write arrays to an ``.npz`` file atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_arrays(*arrays: npt.NDArray[Any]) -> str:
    """Hexadecimal SHA-256 of arrays: their types, shapes and bytes."""
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
