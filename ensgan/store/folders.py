"""Folders of stored files: listing them, and copying them so that no half copy is ever seen."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from ensgan.errors import InputError, IntegrityError, StoreError
from ensgan.files import atomic_path
from ensgan.outputs import folder_in_one_step
from ensgan.store.base import ENSEMBLE_FOLDER

LARGEST_READ: Final = 64 << 20
"""Bytes of a file that :meth:`RunStore.read` hands over; greater ones are fetched by folder."""
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*(/[A-Za-z0-9][A-Za-z0-9._@+-]*)*")


def sizes(folder: Path) -> dict[str, int]:
    """Every file below ``folder``: relative POSIX path and size in bytes, sorted by path."""
    if not folder.is_dir():
        return {}
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def read_file(run_id: str, root: Path, path: str) -> bytes:
    """Content of a plain file of a run whose files lie at ``root``; see :meth:`RunStore.read`."""
    file = root / check_folder(path)
    plain = file.is_file() and file.resolve().is_relative_to(root.resolve())
    check_readable(run_id, path, file.stat().st_size if plain else None)
    return file.read_bytes()


def refuse_links(folder: Path) -> None:
    """Make sure that a folder holds nothing but plain files and folders.

    Raises:
        IntegrityError: naming the first thing that is neither.
    """
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(
                f"{path.relative_to(folder).as_posix()} is a link or a special file: only plain "
                "files are accepted in an artifact"
            )


def add_file(root: Path, path: Path, folder: str = "") -> None:
    """Copy a file to ``folder`` of a run's files; see :meth:`RunStore.log_file`."""
    target = root / (check_folder(folder) if folder else "") / path.name
    if not path.is_file():
        raise StoreError(f"cannot store {path}: no such file")
    with atomic_path(target) as temporary:
        shutil.copyfile(path, temporary)


def add_folder(root: Path, path: Path, folder: str) -> None:
    """Copy a folder's content to ``folder`` of a run's files; see :meth:`RunStore.log_folder`."""
    check_folder(folder)
    if not path.is_dir():
        raise StoreError(f"cannot store {path}: no such folder")
    for name in sizes(path):
        with atomic_path(root / folder / name) as temporary:
            shutil.copyfile(path / name, temporary)


def fetch_folder(run_id: str, root: Path, folder: str, destination: Path) -> Path:
    """Copy ``folder`` of a run whose files lie at ``root``; see :meth:`RunStore.fetch`."""
    source = root / check_folder(folder)
    if not source.is_dir():
        raise unknown_folder(run_id, folder, sizes(root))
    return copy_folder(source, check_destination(destination))


def copy_folder(source: Path, destination: Path) -> Path:
    """Copy plain files and folders, all or nothing, and return ``destination``.

    Raises:
        IntegrityError: ``source`` holds a link or a special file.
        StoreError: the disk cannot be written.
    """
    refuse_links(source)
    with folder_in_one_step(destination) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True, copy_function=shutil.copyfile)
    return destination


def check_folder(folder: str) -> str:
    """A folder name inside a run's files, proven free of ``..``, absolute paths and odd signs.

    Raises:
        InputError: it is not.
    """
    if not _FOLDER.fullmatch(folder) or ".." in PurePosixPath(folder).parts:
        raise InputError(
            f"'{folder}' cannot name a folder of a run: use letters, digits and ._@+- between '/'"
        )
    return folder


def check_destination(destination: Path) -> Path:
    """A place for fetched files: absent, or an empty folder.

    Raises:
        InputError: something is there already.
    """
    occupied = destination.is_symlink() or destination.is_file()
    if not occupied and destination.is_dir():
        occupied = any(destination.iterdir())
    if occupied:
        raise InputError(f"{destination} exists already: name a new or empty folder")
    return destination


def check_readable(run_id: str, path: str, size: int | None) -> None:
    """Refuse to read a file that a run does not have (``size`` None) or that is too large.

    Raises:
        InputError: it is so.
    """
    if size is None:
        raise InputError(f"run {run_id} has no file '{path}': 'ensgan show RUN' lists its files")
    if size > LARGEST_READ:
        raise InputError(
            f"'{path}' of run {run_id} has {size} bytes, more than the {LARGEST_READ} read at once"
        )


def unknown_folder(run_id: str, folder: str, files: Iterable[str]) -> InputError:
    """The error for a folder that a run does not have."""
    known = sorted({path.partition("/")[0] for path in files})
    return InputError(
        f"run {run_id} has no '{folder}' folder; it has {', '.join(known) or 'no files'}"
        + (": wait until its sweep has finished" if folder == ENSEMBLE_FOLDER else "")
    )
