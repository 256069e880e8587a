"""The files of a run: listing them, and copying them so that no half copy is ever seen."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from ensgan.errors import InputError, IntegrityError
from ensgan.files import atomic_path

ENSEMBLE_FOLDER: Final = "ensemble"
"""Folder among a sweep's files that holds the selected ensemble."""
LARGEST_READ: Final = 64 << 20
"""Bytes of a file that :meth:`RunStore.read` hands over; greater ones are fetched by folder."""
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+~-]*(/[A-Za-z0-9][A-Za-z0-9._@+~-]*)*")


class Files(Protocol):
    """The files of one run. Paths are relative POSIX paths that :func:`check_folder` has passed."""

    def sizes(self) -> dict[str, int]:
        """Every file with its size in bytes, sorted by path."""

    def size(self, path: str) -> int | None:
        """Bytes of a plain file; None where there is none."""

    def read(self, path: str) -> bytes:
        """Content of a file that is there."""

    def add_file(self, path: Path, folder: str) -> None:
        """Store a file in a folder, the top when empty."""

    def add_folder(self, path: Path, folder: str) -> None:
        """Store what a folder holds in another."""

    def copy(self, folder: str, destination: Path) -> None:
        """Copy what a folder holds to an empty one.

        Raises:
            IntegrityError: there is a link or a special file among it.
        """


@dataclass(frozen=True)
class LocalFiles:
    """Files of a run that lie on this machine, below ``root``."""

    root: Path

    def sizes(self) -> dict[str, int]:
        """See :meth:`Files.sizes`."""
        return sizes(self.root)

    def size(self, path: str) -> int | None:
        """See :meth:`Files.size`; a link that leads out of the run's files is no file of it."""
        file = self.root / path
        plain = file.is_file() and file.resolve().is_relative_to(self.root.resolve())
        return file.stat().st_size if plain else None

    def read(self, path: str) -> bytes:
        """See :meth:`Files.read`."""
        return (self.root / path).read_bytes()

    def add_file(self, path: Path, folder: str) -> None:
        """See :meth:`Files.add_file`."""
        with atomic_path(self.root / folder / path.name) as temporary:
            shutil.copyfile(path, temporary)

    def add_folder(self, path: Path, folder: str) -> None:
        """See :meth:`Files.add_folder`."""
        for name in sizes(path):
            self.add_file(path / name, str(PurePosixPath(folder, name).parent))

    def copy(self, folder: str, destination: Path) -> None:
        """See :meth:`Files.copy`."""
        refuse_links(self.root / folder)
        shutil.copytree(
            self.root / folder, destination, dirs_exist_ok=True, copy_function=shutil.copyfile
        )


def sizes(folder: Path) -> dict[str, int]:
    """Every file below ``folder``: relative POSIX path and size in bytes, sorted by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


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


def check_folder(folder: str) -> str:
    """A folder name inside a run's files, proven free of ``..``, absolute paths and odd signs.

    Raises:
        InputError: it is not.
    """
    if not _FOLDER.fullmatch(folder):
        raise InputError(
            f"'{folder}' cannot name a folder of a run: use letters, digits and ._@+- between '/'"
        )
    return folder


def unknown_folder(run_id: str, folder: str, files: Iterable[str]) -> InputError:
    """The error for a folder that a run does not have."""
    known = sorted({path.partition("/")[0] for path in files})
    return InputError(
        f"run {run_id} has no '{folder}' folder; it has {', '.join(known) or 'no files'}"
        + (": wait until its sweep has finished" if folder == ENSEMBLE_FOLDER else "")
    )
