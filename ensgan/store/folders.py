"""Folders of stored files: listing them, and copying them so that no half copy is ever seen."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ensgan.errors import IntegrityError, StoreError
from ensgan.store.base import check_folder, check_readable


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


@contextmanager
def folder_in_one_step(destination: Path) -> Iterator[Path]:
    """Yield a new folder beside ``destination`` that takes its place when the block ends well.

    ``destination`` must not exist, or be an empty folder.

    Raises:
        StoreError: the disk cannot be written.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        name = tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o755)
            temporary.replace(destination)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"cannot write {destination}: {error.strerror or error}; check permissions and free "
            "space, then run the same command again"
        ) from error


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
