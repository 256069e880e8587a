"""What addresses mean: a store, and a run by the name it was given.

Names are models of MLflow's registry: their versions are runs, with aliases such as ``champion``.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ensgan.errors import InputError
from ensgan.inputs import database_path, require_database
from ensgan.registry import Registry
from ensgan.store.base import RunStore, unknown_run
from ensgan.store.record import ENSEMBLE_FOLDER, KINDS, unknown_folder
from ensgan.store.sqlite import ARTIFACTS
from ensgan.store.tracking import MLflowStore
from ensgan.text import hide_credentials, some, split_address

MODEL_FILE: Final = "MLmodel"
LATEST: Final = "latest"
"""What the newest sweep is called."""
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_PREFIX: Final = "models:/"
_ADDRESS: Final = re.compile(r"models:/(?P<name>[^/@:]+)(@(?P<alias>[\w.-]+)|/(?P<version>\d+))")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,200}")
_ALIAS: Final = re.compile(r"(?!v?\d+$)(?!latest$)[A-Za-z][\w-]{0,100}")


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
    if database is not None:
        _refuse_signs(database, "%")
        require_database(database, {"experiments", "runs", "tags", "params"}, "MLflow")
    beside = database.resolve().parent if database is not None else storage
    return MLflowStore(with_driver(address), experiment, beside / ARTIFACTS)


def _open_passing(_address: str, _storage: Path, experiment: str) -> RunStore:
    """A temporary store that is deleted with this process."""
    folder = Path(tempfile.mkdtemp(prefix="ensgan-runs-"))
    store = MLflowStore(f"sqlite:///{folder}/mlflow.db", experiment, folder / ARTIFACTS)
    weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
    return store


STORES: Registry[StoreKind] = Registry(
    "scheme of a tracking address",
    "ensgan.stores",
    StoreKind,
    (
        StoreKind("sqlite", _open_mlflow, lambda folder: f"sqlite:///{folder}/mlflow.db"),
        *(StoreKind(name, _open_mlflow) for name in ("http", "https")),
        *(StoreKind(name, _open_mlflow) for name in ("postgresql", "mysql", "mssql")),
        StoreKind("memory", _open_passing),
    ),
)


def _refuse_signs(path: Path, signs: str) -> None:
    """Refuse a path that SQLAlchemy would take for another one: it reads addresses, not paths.

    Raises:
        InputError: a sign of the path means something else in an address.
    """
    sign = next((one for one in signs if one in str(path)), None)
    if sign is not None:
        raise InputError(
            f"'{sign}' in {path} means something else in the address of MLflow's database: use "
            "a folder without it"
        )


def default_storage() -> Path:
    """Folder of sweeps and results: ``ENSGAN_STORAGE``, or ``./ensgan-runs``."""
    return Path(os.environ.get("ENSGAN_STORAGE") or "ensgan-runs")


def open_store(
    uri: str | None = None, storage: Path | str | None = None, experiment: str = "ensgan"
) -> RunStore:
    """The store at ``uri``, else at ``MLFLOW_TRACKING_URI``, else SQLite in the storage folder.

    Nothing is created or contacted before its first use.

    Raises:
        InputError: the address is of a kind that no store is known for, or its database's driver
            is not installed.
    """
    folder = Path(storage) if storage else default_storage()
    address = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        _refuse_signs(folder.resolve(), "%?")
        address = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
    scheme, colon, _ = address.partition(":")
    scheme = scheme.partition("+")[0]
    if not colon or scheme not in STORES or split_address(address) is None:
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


def promote(store: RunStore, run_id: str, *, name: str, alias: str, loader: str) -> int:
    """Register the ensemble of a run as the next version of a model and give it an alias.

    A run that is registered under the name already keeps its version; only the alias moves. An
    ``MLmodel`` file beside the ensemble lets plain MLflow load it.

    Args:
        loader: importable module with MLflow's ``_load_pyfunc``.

    Returns:
        the version.

    Raises:
        InputError: the run does not exist or has no ensemble, or a name cannot be used.
        StoreError: the store cannot be reached.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"'{name}' cannot name a model: use letters, digits, blanks and ._-")
    if not _ALIAS.fullmatch(alias):
        raise InputError(f"'{alias}' cannot be an alias: use a word such as champion")
    files = store.files(run_id)
    if not any(path.startswith(f"{ENSEMBLE_FOLDER}/") for path in files):
        raise unknown_folder(run_id, ENSEMBLE_FOLDER, files)
    if f"{ENSEMBLE_FOLDER}/{MODEL_FILE}" not in files:
        with tempfile.TemporaryDirectory(prefix="ensgan-promote-") as folder:
            model_file = Path(folder) / MODEL_FILE
            model_file.write_text(_model_text(run_id, loader), encoding="utf-8")
            store.log_file(run_id, model_file, ENSEMBLE_FOLDER)
    return store.register(run_id, name, alias)


def is_model_address(text: str) -> bool:
    """Whether a text is meant as ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    return text.startswith(_PREFIX)


def find_run(store: RunStore, text: str) -> str:
    """ID of the run that a person means.

    Args:
        text: a run ID or the beginning of one, the name of a sweep (its newest run), ``latest``
            (the newest sweep), ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises:
        InputError: no run fits, or several do; those are listed.
        StoreError: the store cannot be reached.
    """
    if is_model_address(text):
        return _run_of_model(store, text)
    if _RUN_ID.fullmatch(text):
        return text
    sweeps = store.find()
    named = [run.run_id for run in sweeps if run.name == text]
    if text == LATEST:
        named += [run.run_id for run in sweeps]
    if named:
        return named[0]
    everything = (run for kind in KINDS for run in store.find(kind))
    labels = {run.run_id: f"{run.kind} {run.name}" for run in everything}
    meant = beginning_with(text, labels)
    if meant is None:
        near = difflib.get_close_matches(text, [LATEST, *(run.name for run in sweeps)], n=1)
        raise unknown_run(text, store.uri, near[0] if near else "")
    return meant


def beginning_with(text: str, labels: Mapping[str, str]) -> str | None:
    """The one run ID that begins with a text; None where none does.

    Args:
        text: the beginning of an ID.
        labels: by run ID, what a person calls the run.

    Raises:
        InputError: several do.
    """
    matching = sorted(run_id for run_id in labels if text and run_id.startswith(text.lower()))
    if len(matching) > 1:
        shown = some([f"{run_id[:12]}… ({labels[run_id]})" for run_id in matching])
        raise InputError(f"'{text}' begins {len(matching)} run IDs: {shown}; write more of it")
    return matching[0] if matching else None


def _run_of_model(store: RunStore, address: str) -> str:
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(f"'{address}' is no model: write models:/NAME@ALIAS or models:/NAME/3")
    run_id = None
    if _NAME.fullmatch(match["name"]):
        run_id = store.registered(match["name"], alias=match["alias"], version=match["version"])
    if run_id is None:
        raise InputError(
            f"nothing is registered as {address} in {store.uri}: 'ensgan promote RUN' registers "
            "an ensemble"
        )
    return run_id


def _model_text(run_id: str, loader: str) -> str:
    """MLflow's description of a model; without a ``data`` key the whole folder is the model."""
    import yaml  # late: most commands promote nothing

    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    value = {
        "artifact_path": ENSEMBLE_FOLDER,
        "run_id": run_id,
        "flavors": {"python_function": {"loader_module": loader, "python_version": version}},
    }
    return yaml.safe_dump(value, sort_keys=False)
