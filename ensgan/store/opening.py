"""Which store a command means: an address, the environment, or the storage folder."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from ensgan.errors import InputError
from ensgan.store.sqlite import ARTIFACTS, database_path
from ensgan.store.tracking import MLflowStore


def default_storage() -> Path:
    """Folder of sweeps and results: ``ENSGAN_STORAGE``, or ``./ensgan-runs``."""
    return Path(os.environ.get("ENSGAN_STORAGE") or "ensgan-runs")


def open_store(
    uri: str | None = None, storage: Path | None = None, experiment: str = "ensgan"
) -> MLflowStore:
    """The store at ``uri``, else at ``MLFLOW_TRACKING_URI``, else SQLite in the storage folder.

    Nothing is created or contacted before its first use.

    Raises:
        InputError: the address is of a kind that MLflow no longer keeps runs in, or its database's
            driver is not installed.
    """
    folder = storage or default_storage()
    address = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        database = folder.resolve() / "mlflow.db"
        return MLflowStore(f"sqlite:///{database}", experiment, folder / ARTIFACTS)
    if "://" not in address or address.startswith("file:"):
        raise InputError(
            f"'{address}' is no tracking address: write sqlite:///FILE, http://HOST:PORT or a "
            "database address such as postgresql://…"
        )
    address = with_driver(address)
    if address.startswith("http"):
        return MLflowStore(address, experiment)
    named = database_path(address)
    beside = named.resolve().parent if named is not None else folder
    return MLflowStore(address, experiment, beside / ARTIFACTS)


def with_driver(address: str) -> str:
    """A PostgreSQL address with the name of a driver that is installed; others as they are.

    SQLAlchemy means psycopg by ``postgresql://`` since 2.1, and psycopg2 before.

    Raises:
        InputError: neither is installed.
    """
    scheme, _, rest = address.partition("://")
    if scheme != "postgresql":
        return address
    for driver in ("psycopg", "psycopg2"):
        if find_spec(driver) is not None:
            return f"postgresql+{driver}://{rest}"
    raise InputError(
        "a PostgreSQL address needs a driver: pip install 'ensgan[postgres]', or name an MLflow "
        "server in front of the database"
    )
