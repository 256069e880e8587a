"""The folder of one sweep: its files, its lock, and its manifest (the truth of the sweep)."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ensgan.errors import InputError, StoreError
from ensgan.files import read_json, write_json

SCHEMA = 1
LOCK_ATTEMPTS = 6


class SweepFolder:
    """Paths inside ``<storage>/sweeps/<name>`` and the manifest, replaced atomically.

    Files are named by the content key of what made them, so that a result is found again exactly
    when its stage, inputs and settings are the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @property
    def manifest_path(self) -> Path:
        """The manifest: spec, stage keys and seconds, members, results, run IDs."""
        return self.path / "manifest.json"

    def training(self, gan: str, key: str) -> Path:
        """Snapshots and resume checkpoint of one GAN."""
        return self.path / "train" / f"{gan}-{key}"

    def file(self, stage: str, name: str) -> Path:
        """A result file of a stage."""
        return self.path / stage / name

    def real_images(self, dataset_key: str, split: str = "train") -> Path:
        """The real images of a split as :class:`~ensgan.types.Samples`, never recorded anywhere."""
        return self.path / "data" / f"{dataset_key[:16]}-{split}.npz"

    def read(self) -> dict[str, Any]:
        """The manifest, or an empty one where the sweep has not begun.

        Raises:
            InputError: the folder holds something else or a newer schema.
        """
        if not self.manifest_path.exists():
            return {"schema": SCHEMA}
        manifest = read_json(self.manifest_path)
        if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
            raise InputError(
                f"{self.manifest_path} is no manifest of schema {SCHEMA}; use another --storage"
            )
        return manifest

    def write(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest."""
        write_json(self.manifest_path, manifest)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the lock ends with the process, however it ends.

        Raises:
            InputError: another process holds it.
            StoreError: the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(
                f"cannot write {self.path}: {error.strerror}; choose another --storage"
            ) from error
        try:
            try:
                _take(lock)
            except OSError as error:
                raise InputError(
                    f"another process runs a sweep in {self.path}: wait for it, or give this one "
                    "another name (--set name=...)"
                ) from error
            yield
        finally:
            os.close(lock)

    def is_locked(self) -> bool:
        """A process holds the folder now."""
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
        """Move an earlier sweep out of the way (nothing is deleted); where it went, if any."""
        if not self.path.exists():
            return None
        stamp = time.strftime("%Y%m%d-%H%M%S")
        target = self.path.with_name(f"{self.path.name}.before-{stamp}")
        shutil.move(self.path, target)
        return target


def _take(lock: int) -> None:
    """Take an exclusive lock; one that is only looked at (``is_locked``) is free at once.

    Raises:
        OSError: another process holds it.
    """
    for attempt in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if attempt == LOCK_ATTEMPTS - 1:
                raise
            time.sleep(0.05)
        else:
            return
