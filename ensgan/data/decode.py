"""Many image files at once: in parallel, every failure listed, the result cached."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ensgan.caches import read_cached, write_cached
from ensgan.data.picture import Job, Preparation, prepare
from ensgan.errors import DataError
from ensgan.files import content_key
from ensgan.types import UInt8Array

_VERSION = 2  # raise it when the same files would give other images
_EDGE = 1 << 14  # bytes at each end of a file that its fingerprint covers
_LISTED = 20


@dataclass(frozen=True)
class Findings:
    """Problems found before decoding: they are listed together with those of the pixels."""

    headline: str
    problems: tuple[str, ...] = ()


NOTHING = Findings("")


def decode_files(
    jobs: Sequence[Job],
    preparation: Preparation,
    *,
    root: Path,
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    found: Findings = NOTHING,
) -> tuple[UInt8Array, tuple[str, ...]]:
    """Read and prepare all files.

    The cached result is used when names, sizes, times and both ends of all files are unchanged.

    Args:
        jobs: the files.
        preparation: what to make of them.
        root: file names in messages are relative to it.
        cache: folder of cached results; None neither reads nor writes any.
        workers: threads; default: the cores this process may use.
        on_progress: called with (done, total).
        found: problems known already; with any, all files are decoded to find the others, and
            everything is refused in one list.

    Returns:
        uint8 [n,size,size] or [n,size,size,3], and per file a hash of the patient ("" unknown).

    Raises:
        DataError: files that cannot be used (all are listed), or grey and RGB mixed.
    """
    path = None
    if cache is not None and not found.problems:
        path = cache / "images" / f"{_fingerprint(jobs, preparation, root)}.npz"
        cached = _read_cache(path, len(jobs))
        if cached is not None:
            return cached
    images, patients = _decode(jobs, preparation, root, workers, on_progress, found)
    if path is not None:
        write_cached(path, images=images, patients=np.array(patients, dtype=str))
    return images, patients


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _decode(
    jobs: Sequence[Job],
    preparation: Preparation,
    root: Path,
    workers: int | None,
    on_progress: Callable[[int, int], None] | None,
    found: Findings,
) -> tuple[UInt8Array, tuple[str, ...]]:
    images: list[UInt8Array] = []
    patients: list[str] = []
    problems: list[str] = []
    # Threads: decoding and resampling release the interpreter lock for nearly all of their time.
    with ThreadPoolExecutor(workers or available_cores()) as pool:
        results = pool.map(partial(_attempt, preparation=preparation), jobs)
        for done, (job, result) in enumerate(zip(jobs, results, strict=True), start=1):
            if isinstance(result, DataError):
                problems.append(f"{relative(job.path, root)} {result}")
            else:
                images.append(result[0])
                patients.append(result[1])
            if on_progress is not None:
                on_progress(done, len(jobs))
    if found.problems:
        refuse(found.headline, [*found.problems, *problems])
    refuse(f"{len(problems)} of {len(jobs)} images cannot be used", problems)
    _require_one_shape(images, jobs, root)
    return np.stack(images), tuple(patients)


def _attempt(job: Job, preparation: Preparation) -> tuple[UInt8Array, str] | DataError:
    try:
        return prepare(job, preparation)
    except DataError as error:
        return error


def _require_one_shape(images: Sequence[UInt8Array], jobs: Sequence[Job], root: Path) -> None:
    colour = [job.path for job, image in zip(jobs, images, strict=True) if image.ndim == 3]
    if not colour or len(colour) == len(images):
        return
    grey = [job.path for job, image in zip(jobs, images, strict=True) if image.ndim == 2]
    kind, few = ("RGB", colour) if len(colour) <= len(grey) else ("grey", grey)
    shown = ", ".join(relative(path, root) for path in few[:5])
    raise DataError(
        f"grey and RGB images are mixed: {len(few)} of {len(images)} are {kind} ({shown}"
        f"{', …' if len(few) > 5 else ''}); set the option channels to 1 or 3 to convert them"
    )


def refuse(headline: str, problems: Sequence[str]) -> None:
    """Raise one DataError that lists the problems, the first twenty by name; none passes.

    Raises:
        DataError: there are problems.
    """
    if not problems:
        return
    lines = [f"\n  - {problem}" for problem in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"\n  - and {len(problems) - _LISTED} more")
    raise DataError(f"{headline}:" + "".join(lines))


def relative(path: Path, root: Path) -> str:
    """``path`` as seen from ``root``, for messages and keys."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _fingerprint(jobs: Sequence[Job], preparation: Preparation, root: Path) -> str:
    digest = hashlib.sha256(content_key(_VERSION, asdict(preparation)).encode())
    for job in jobs:
        box = None if job.box is None else asdict(job.box)
        digest.update(content_key(relative(job.path, root), box, job.apply_mask).encode())
        for path in (job.path, job.mask):
            if path is not None:
                digest.update(_file_mark(path))
    return digest.hexdigest()[:32]


def _file_mark(path: Path) -> bytes:
    """Size, time and both ends of a file: hashing gigabytes whole would take too long."""
    try:
        status = path.stat()
        with path.open("rb") as stream:
            head = stream.read(_EDGE)
            stream.seek(max(0, status.st_size - _EDGE))
            tail = stream.read(_EDGE)
    except OSError as error:
        return f"unreadable {error.errno}".encode()  # decoding will say what is wrong
    return f"{status.st_size} {status.st_mtime_ns} ".encode() + head + tail


def _read_cache(path: Path, count: int) -> tuple[UInt8Array, tuple[str, ...]] | None:
    """The cached images, or None when there are none or they are damaged."""
    arrays = read_cached(path, ("images", "patients"))
    if arrays is None:
        return None
    images, patients = arrays["images"], arrays["patients"]
    if len(images) != count or len(patients) != count or images.dtype != np.uint8:
        return None
    return images, tuple(str(patient) for patient in patients)
