"""The folder of one sweep, its files and its lock, and how it is found."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ensgan.errors import DataError, InputError, StoreError, unknown_name
from ensgan.outputs import take_lock
from ensgan.store import LATEST, beginning_with
from ensgan.sweep.manifest import Manifest
from ensgan.sweep.records import RecordFile

LOOK_SECONDS = 0.25
"""Longer than :meth:`SweepFolder.is_locked` of another process holds the lock to test it."""


class SweepFolder:
    """Paths inside ``<storage>/sweeps/<name>``.

    Files are named by the content key of what made them, so that a result is found again exactly
    when its stage, inputs and settings are the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock: int | None = None

    @property
    def manifest_path(self) -> Path:
        """The sweep's description and results."""
        return self.path / "manifest.json"

    @property
    def progress_path(self) -> Path:
        """What its driver is doing now."""
        return self.path / "progress.json"

    @property
    def record_path(self) -> Path:
        """What has been recorded in the tracking store."""
        return self.path / "recorded.json"

    def log(self, gan: str) -> Path:
        """What the trials of a GAN have logged."""
        return self.path / "logs" / f"{gan}.log"

    def file(self, stage: str, name: str) -> Path:
        """A result file of a stage."""
        return self.path / stage / name

    def real_images(self, dataset_key: str, split: str = "train") -> Path:
        """The real images of a split as :class:`~ensgan.types.Samples`, never recorded anywhere."""
        return self.path / "data" / f"{dataset_key[:16]}-{split}.npz"

    @property
    def has_begun(self) -> bool:
        """There is a manifest."""
        return self.manifest_path.exists()

    def read(self) -> Manifest:
        """The manifest.

        Raises:
            DataError: there is none, or it is damaged, foreign or of a newer version.
        """
        return Manifest.load(self.manifest_path)

    def recorded(self) -> RecordFile:
        """What is recorded of the sweep, and under which run IDs.

        Raises:
            DataError: the file that says it is damaged or foreign.
        """
        return RecordFile.load(self.record_path)

    def run_id(self) -> str | None:
        """ID of the sweep's latest run; None if there is none, or its record cannot be read."""
        try:
            return self.recorded().runs.get(self.read().settings.name) or None
        except DataError:
            return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for this process; the lock ends with the process, however it ends.

        Raises:
            InputError: another process holds it, or a file is where it should be.
            StoreError: the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            # A file where a folder should be is the user's mistake, a full disk is not.
            named = isinstance(error, NotADirectoryError | FileExistsError)
            raise (InputError if named else StoreError)(
                f"cannot write {self.path}: {error.strerror}; choose another --storage"
            ) from error
        try:
            try:
                take_lock(lock, LOOK_SECONDS)
            except OSError as error:
                raise InputError(
                    f"another process runs a sweep in {self.path}: wait for it, or give this one "
                    "another name (--set name=...)"
                ) from error
            self._lock = lock
            yield
        finally:
            self._lock = None
            os.close(lock)

    def require_in_place(self) -> None:
        """Refuse to go on in a folder that was exchanged since this process locked it.

        Raises:
            StoreError: it was moved, renamed or replaced.
        """
        if self._lock is None:
            return
        held = os.fstat(self._lock)
        try:
            is_same = os.path.samestat(held, (self.path / "lock").stat())
        except OSError:
            is_same = False
        if not is_same:
            raise StoreError(
                f"{self.path} was moved or replaced while its sweep ran: run the same command "
                "where it is now, or move it back first; what was finished before is kept"
            )

    def is_locked(self) -> bool:
        """Whether a process holds the folder's lock."""
        try:
            lock = os.open(self.path / "lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False

    def set_aside(self) -> Path | None:
        """Move an earlier sweep out of the way (nothing is deleted); its new folder, if any."""
        if not self.path.exists():
            return None
        stamp = time.strftime("%Y%m%d-%H%M%S")
        target = self.path.with_name(f"{self.path.name}.before-{stamp}")
        shutil.move(self.path, target)
        return target


def sweep_folder(storage: Path, name: str) -> SweepFolder:
    """Where the sweep of this name lives.

    Raises:
        InputError: the storage's path is not UTF-8, which weights and databases cannot lie under.
    """
    if any("\ud800" <= sign <= "\udfff" for sign in str(storage)):  # bytes of another encoding
        raise InputError(f"the path of --storage {storage} is not UTF-8: name another folder")
    return SweepFolder(storage / "sweeps" / name)


def find_sweep(source: str, storage: Path) -> SweepFolder:
    """The folder of a sweep.

    Args:
        source: its name, its folder, the ID of any run recorded for it or the beginning of one,
            or ``latest``: the one that began last.
        storage: where sweeps lie.

    Raises:
        InputError: there is none, or the beginning of an ID fits runs of several.
    """
    if (Path(source) / "manifest.json").is_file():
        return SweepFolder(Path(source))
    if (Path(source) / "ensemble.json").is_file():
        raise InputError(
            f"{source} is an ensemble and brings no real data: say on which to evaluate it, e.g. "
            "--dataset pneumoniamnist"
        )
    folders = [
        SweepFolder(path.parent) for path in sorted((storage / "sweeps").glob("*/manifest.json"))
    ]
    for folder in folders:
        if folder.path.name == source:
            return folder
    if not folders:
        raise InputError(
            f"{storage} holds no sweeps: name their folder with --storage, or run `ensgan sweep`"
        )
    if source == LATEST:
        return max(folders, key=_began)
    owners: dict[str, SweepFolder] = {}
    for folder in folders:
        with suppress(DataError):  # damage to another sweep must not hide this one
            owners |= dict.fromkeys(folder.recorded().run_ids, folder)
    run_id = beginning_with(source, {run: folder.path.name for run, folder in owners.items()})
    if run_id is not None:
        return owners[run_id]
    names = [folder.path.name for folder in folders]
    raise InputError(f"{storage}: {unknown_name('sweep or run', source, names)}")


def _began(folder: SweepFolder) -> float:
    """When a sweep began; one whose manifest cannot be read counts as the oldest."""
    try:
        return folder.read().started
    except DataError:
        return 0.0
