"""The cache folder: results that can be made again, bounded in size; other files in it stay."""

from __future__ import annotations

import os
import re
import time
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ensgan.errors import DataError, InputError, StoreError
from ensgan.files import read_npz, write_npz

CACHE_VARIABLE = "ENSGAN_CACHE"
"""Environment variable that names the cache folder."""
LIMIT_VARIABLE = "ENSGAN_CACHE_GB"
"""Environment variable: most gigabytes of cached features, and as many of decoded images."""
DEFAULT_LIMIT_GB = 10.0
STALE_SECONDS = 86_400.0
"""A half-written cache file of this age was left by a process that was killed."""
CACHE_MARK: Final = "ensgan_cache"
"""Array in every cached file, by which it is known as one."""
_CACHED: Final = re.compile(r"[0-9a-f]{16,64}\.npz")
_UNFINISHED: Final = re.compile(r"\.[0-9a-f]{16,64}\.npz\.\w+\.npz")


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

    Another process may remove it at any moment; a file that is already open can be read to its end.
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
        write_npz(path, **arrays, **{CACHE_MARK: np.array(1)})
        trim_cache(path.parent, limit, keep=path)


def trim_cache(folder: Path, limit: int, keep: Path | None = None) -> None:
    """Remove cached files, the longest unused first, until the rest is within ``limit`` bytes.

    Args:
        folder: the files that :func:`write_cached` put there count, under names that are content
            keys; all others stay.
        limit: bytes.
        keep: a file that stays, whatever its size.

    Other processes may do the same at the same time.
    """
    cached = []
    for path in folder.glob("*.npz"):
        if _CACHED.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name):
            with suppress(OSError):  # removed by another process
                status = path.stat()
                cached.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in cached)
    for used, size, path in sorted(cached):
        unfinished = path.name.startswith(".")
        due = time.time() - used / 1e9 > STALE_SECONDS if unfinished else total > limit
        # A name alone may be a coincidence; the content is read only of what is to go.
        if path == keep or not due or not (unfinished or _is_cached(path)):
            continue
        total -= size
        with suppress(OSError):
            path.unlink()


def _is_cached(path: Path) -> bool:
    """Whether :func:`write_cached` wrote a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{CACHE_MARK}.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
