"""Many image files: found, decoded in parallel with a list of all failures, and cached."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ensgan.caches import read_cached, write_cached
from ensgan.data.levels import STRETCHED
from ensgan.data.picture import PLAIN, TRANSPARENT, Turns, is_picture
from ensgan.data.prepare import Job, Preparation, Prepared, prepare
from ensgan.errors import DataError
from ensgan.files import content_key
from ensgan.inputs import kind, refuse, relative, require_memory
from ensgan.text import printable
from ensgan.types import UInt8Array

_VERSION = 3  # raise it when the same files would give other images
_TEXTS = ("patients", "sizes", "notes")  # arrays about the files, kept beside their images
_EDGE = 1 << 14  # bytes at each end of a file that its fingerprint covers
# What unpacking, exporting and browsing leave beside images: never a class, never an image.
_LEFTOVERS = frozenset(
    {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
    | {"dicomdir", "thumbs.db", "desktop.ini"}
)
_UNREAD = frozenset(
    {".avif", ".cr2", ".czi", ".dng", ".eps", ".exr", ".h5", ".hdr", ".heic", ".heif", ".ico"}
    | {".jxl", ".jxr", ".lif", ".mat", ".mha", ".mhd", ".mrxs", ".ndpi", ".nef", ".nii", ".nrrd"}
    | {".npz", ".pcx", ".pdf", ".psd", ".raw", ".svg", ".svs", ".tga", ".vsi", ".xcf", ".avi"}
    | {".mp4", ".webm", ".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".zip"}
)
"""Endings of images, or of archives of images, that are not read."""
_TEXTS_BESIDE = frozenset({".csv", ".json", ".log", ".md", ".py", ".txt", ".xml", ".yaml", ".yml"})
"""Endings of what describes images: such files are not looked into, however many there are."""
_MANY = 50_000
"""Files and folders after which one in a hundred must be an image, or the folder is another one."""


@dataclass(frozen=True)
class Found:
    """The image files below a folder, and what was left out.

    Attributes:
        files: image files in the order of their paths.
        warnings: files left out that may be images, one sentence.
        notes: other files left out, one sentence.
    """

    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def is_leftover(name: str) -> bool:
    """Whether a file or folder is hidden, or made by a system beside the images."""
    return name.startswith((".", "~$")) or name.lower() in _LEFTOVERS


def find_pictures(root: Path) -> Found:
    """All image files below ``root``; hidden files and leftovers of other programs are passed over.

    Raises:
        DataError: links that lead out of the folder, or folders that cannot be listed; or hardly
            an image is found among very many other files (``/``, for example).
    """
    base, seen = root.resolve(), 0
    if base == Path(base.anchor):
        raise DataError(f"{root} is the whole file system: name the folder of the images")
    images: list[Path] = []
    left_out: list[Path] = []
    problems: list[str] = []

    def not_listed(error: OSError) -> None:
        problems.append(f"{error.filename} cannot be listed ({error.strerror})")

    for folder, folders, files in os.walk(root, onerror=not_listed):
        folders[:] = sorted(name for name in folders if not is_leftover(name))
        for name in (*folders, *sorted(name for name in files if not is_leftover(name))):
            what = kind(path := Path(folder) / name)
            is_text = path.suffix.lower() in _TEXTS_BESIDE
            if path.is_symlink() and not _lies_in(path, base):
                problems.append(
                    f"{relative(path, root)} is a link that leads out of the folder or nowhere"
                )
            elif path.is_symlink() and what == "folder":
                problems.append(f"{relative(path, root)} is a link to a folder: copy it instead")
            elif what == "file" and not is_text and is_picture(path):
                images.append(path)
            elif what != "folder":
                left_out.append(path)
            seen += not is_text
            if seen > _MANY and seen > 100 * len(images):
                raise DataError(
                    f"{root} is no folder of images: its first {seen:,} files and folders hold "
                    f"{len(images):,}; name the folder where they are"
                )
    refuse(f"{root} cannot be used", problems)
    unread = [path for path in left_out if path.suffix.lower() in _UNREAD or kind(path) != "file"]
    others = [path for path in left_out if path not in unread]
    return Found(tuple(images), _left_out(unread, unreadable=True), _left_out(others))


def _lies_in(link: Path, folder: Path) -> bool:
    """Whether a link leads into a folder; False for a link that cannot be followed."""
    try:
        with suppress(FileNotFoundError):
            link.stat()  # since Python 3.13 resolve() does not report a loop
        return link.resolve().is_relative_to(folder)
    except (OSError, RuntimeError):  # a loop, or through a folder that may not be read
        return False


def _left_out(paths: Sequence[Path], unreadable: bool = False) -> tuple[str, ...]:
    """One sentence that counts files by their endings, or nothing."""
    if not paths:
        return ()
    endings = Counter(
        (path.suffix.lower() or "no ending") if kind(path) == "file" else "no regular file"
        for path in paths
    )
    most = sorted(endings, key=lambda end: (-endings[end], end))[:8]
    counted = ", ".join(f"{endings[end]} × {printable(end)}" for end in most)
    one = len(paths) == 1
    files = "1 file was" if one else f"{len(paths):,} files were"
    reason = f" as {'it' if one else 'they'} cannot be read" * unreadable
    return (f"{files} left out{reason}: {counted}",)


@dataclass(frozen=True)
class Decoded:
    """Prepared images.

    Attributes:
        images: uint8 [n,size,size] or [n,size,size,3].
        patients: per file a hash of the patient, "" unknown.
        sizes: per file its size before, ``WIDTH×HEIGHT`` in pixels.
        notes: remarks on how they were read, one sentence each.
    """

    images: UInt8Array
    patients: tuple[str, ...]
    sizes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def decode_files(
    jobs: Sequence[Job],
    preparation: Preparation,
    *,
    root: Path,
    cache: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    headline: str = "",
    problems: Sequence[str] = (),
) -> Decoded:
    """Read and prepare all files.

    The cached result is used when names, sizes, times and both ends of all files are unchanged.

    Args:
        jobs: the files.
        preparation: what to make of them.
        root: file names in messages are relative to it.
        cache: folder of cached results; None neither reads nor writes any.
        on_progress: called with (done, total).
        headline, problems: what is known to be wrong already; with any problem, all files are
            decoded to find the others, and everything is refused in one list.

    Raises:
        DataError: files that cannot be used (all are listed); grey and RGB mixed; images of 8 bits
            mixed with deeper ones that would be stretched.
    """
    side, depth = preparation.size, preparation.channels or 1
    require_memory(len(jobs) * side * side * depth, f"{len(jobs):,} images of {side} pixels")
    path = None
    if cache is not None and not problems:
        path = cache / "images" / f"{_fingerprint(jobs, preparation, root)}.npz"
        cached = _read_cache(path, len(jobs))
        if cached is not None:
            return cached
    prepared, wrong = _prepare_all(jobs, preparation, root, on_progress)
    if problems:
        refuse(headline, [*problems, *wrong])
    refuse(f"{len(wrong)} of {len(jobs)} images cannot be used", wrong)
    decoded = _together(jobs, prepared, root)
    if path is not None:
        arrays = {name: np.array(getattr(decoded, name), dtype=str) for name in _TEXTS}
        write_cached(path, images=decoded.images, **arrays)
    return decoded


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _prepare_all(
    jobs: Sequence[Job],
    preparation: Preparation,
    root: Path,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[list[Prepared], list[str]]:
    """The files that can be used, and what is wrong with the others."""
    prepared: list[Prepared] = []
    problems: list[str] = []
    workers = available_cores()
    turns = Turns(workers)

    def attempt(job: Job) -> Prepared | DataError:
        try:
            return prepare(job, preparation, turns)
        except DataError as error:
            return error

    # Threads: decoding and resampling release the interpreter lock for nearly all of their time.
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(attempt, jobs)
        for done, (job, result) in enumerate(zip(jobs, results, strict=True), start=1):
            if isinstance(result, DataError):
                problems.append(f"{relative(job.path, root)} {result}")
            else:
                prepared.append(result)
            if on_progress is not None:
                on_progress(done, len(jobs))
    return prepared, problems


def _together(jobs: Sequence[Job], prepared: Sequence[Prepared], root: Path) -> Decoded:
    """All images as one array, where they are of one kind."""
    named: dict[str, list[str]] = defaultdict(list)
    for job, one in zip(jobs, prepared, strict=True):
        for kind_of_image in ("grey" if one.image.ndim == 2 else "RGB", *one.remarks):
            named[kind_of_image].append(relative(job.path, root))
    _refuse_mixture(
        {"RGB": named["RGB"], "grey": named["grey"]},
        "set the option channels to 1 or 3 to convert them",
    )
    _refuse_mixture(
        {"of 8 bits": named[PLAIN], "of more bits": named[STRETCHED]},
        "the first are taken as they are, the others stretched between percentiles of each image: "
        "set the option window to full (none is stretched) or percentile (all are)",
    )
    images = np.stack([one.image for one in prepared])
    patients, sizes = zip(*((one.patient, one.source_size) for one in prepared), strict=True)
    return Decoded(images, patients, sizes, _notes(named, len(jobs)))


def _refuse_mixture(kinds: dict[str, list[str]], remedy: str) -> None:
    """Refuse images of two kinds, of which the fewer are named."""
    if not all(kinds.values()):
        return
    few = min(kinds, key=lambda name: len(kinds[name]))
    names, total = kinds[few], sum(map(len, kinds.values()))
    shown = ", ".join(names[:5]) + ", …" * (len(names) > 5)
    raise DataError(
        f"{' and '.join(sorted(kinds, key=str.lower))} images are mixed: {len(names)} of {total} "
        f"are {few} ({shown}); {remedy}"
    )


def _notes(marked: dict[str, list[str]], total: int) -> tuple[str, ...]:
    notes = []
    if marked[STRETCHED]:
        notes.append(
            f"{len(marked[STRETCHED])} of {total} images have more than 8 bits or are DICOM, and "
            "have no window of their own: each was stretched between its 2nd and 98th percentile "
            "(option window)"
        )
    if marked[TRANSPARENT]:
        notes.append(
            f"{len(marked[TRANSPARENT])} of {total} images have transparent parts, shown on black "
            f"(the first: {marked[TRANSPARENT][0]})"
        )
    return tuple(notes)


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


def _read_cache(path: Path, count: int) -> Decoded | None:
    """The cached images, or None when there are none or they are damaged."""
    arrays = read_cached(path, ("images", *_TEXTS))
    if arrays is None:
        return None
    texts = {name: tuple(map(str, arrays[name])) for name in _TEXTS}
    images = arrays["images"]
    is_whole = len(images) == len(texts["patients"]) == len(texts["sizes"]) == count
    return Decoded(images, **texts) if is_whole and images.dtype == np.uint8 else None
