"""Which store a command means: an address, the environment, or the storage folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ensgan.errors import InputError
from ensgan.registry import Registry
from ensgan.store.base import RunStore
from ensgan.store.memory import MemoryStore
from ensgan.store.sqlite import ARTIFACTS, database_path
from ensgan.store.tracking import MLflowStore
from ensgan.text import hide_credentials


@dataclass(frozen=True)
class StoreKind:
    """A kind of store, chosen by the scheme of its address.

    Attributes:
        name: the scheme, what stands before ``:`` (and before a ``+``).
        open: makes the store from address, storage folder and experiment name; creates and
            contacts nothing.
        local_address: address of a fresh store that needs no server, in a folder; None where
            there is no such address. The tests of the contract run on it.
    """

    name: str
    open: Callable[[str, Path, str], RunStore]
    local_address: Callable[[Path], str] | None = None


def _open_mlflow(address: str, storage: Path, experiment: str) -> RunStore:
    if address.startswith("http"):
        return MLflowStore(address, experiment)
    database = database_path(address)
    beside = database.resolve().parent if database is not None else storage
    return MLflowStore(with_driver(address), experiment, beside / ARTIFACTS)


STORES: Registry[StoreKind] = Registry(
    "scheme of a tracking address",
    "ensgan.stores",
    StoreKind,
    (
        StoreKind("sqlite", _open_mlflow, lambda folder: f"sqlite:///{folder}/mlflow.db"),
        *(StoreKind(name, _open_mlflow) for name in ("http", "https")),
        *(StoreKind(name, _open_mlflow) for name in ("postgresql", "mysql", "mssql")),
        StoreKind("memory", lambda *_: MemoryStore(), lambda folder: "memory:"),
    ),
)


def default_storage() -> Path:
    """Folder of sweeps and results: ``ENSGAN_STORAGE``, or ``./ensgan-runs``."""
    return Path(os.environ.get("ENSGAN_STORAGE") or "ensgan-runs")


def open_store(
    uri: str | None = None, storage: Path | None = None, experiment: str = "ensgan"
) -> RunStore:
    """The store at ``uri``, else at ``MLFLOW_TRACKING_URI``, else SQLite in the storage folder.

    Nothing is created or contacted before its first use.

    Raises:
        InputError: the address is of a kind that no store is known for, or its database's driver
            is not installed.
    """
    folder = storage or default_storage()
    address = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        address = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
    scheme, colon, _ = address.partition(":")
    scheme = scheme.partition("+")[0]
    if not colon or scheme not in STORES:
        raise InputError(
            f"'{hide_credentials(address)}' is no tracking address: write sqlite:///FILE, "
            "http://HOST:PORT or a database address; it may begin with "
            f"{', '.join(STORES.names())}"
        )
    return STORES.get(scheme).open(address, folder, experiment)


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
