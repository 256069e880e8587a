"""Making the SQLite database of a fresh storage folder, fast and never half."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def make_database(path: Path, migrate: Callable[[str], object]) -> None:
    """Let ``migrate`` build the database in a scratch file, then put it in place in one step.

    MLflow's some 60 migrations commit one by one, and waiting for the disk takes most of their
    time; a scratch file needs no flushing, and a kill in their midst leaves no half-made database.

    Args:
        path: where the database shall be; one that appears meanwhile is kept.
        migrate: called with the address of the scratch file.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
        scratch = Path(folder).resolve() / "new.db"

        def without_flushing(connection: Any, _record: Any) -> None:
            if isinstance(connection, sqlite3.Connection):
                files = [row[2] for row in connection.execute("PRAGMA database_list")]
                if str(scratch) in files:
                    connection.execute("PRAGMA synchronous = OFF")

        event.listen(Engine, "connect", without_flushing)
        try:
            migrate(f"sqlite:///{scratch}")
        finally:
            event.remove(Engine, "connect", without_flushing)
        with scratch.open("rb") as written:
            os.fsync(written.fileno())
        # A link, unlike a rename, refuses to replace a database that another process made.
        with suppress(FileExistsError):
            os.link(scratch, path)
