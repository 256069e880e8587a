"""Names for chosen sweeps: models whose versions are runs, with aliases such as ``champion``."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Final

import yaml

from ensgan.errors import InputError
from ensgan.store.base import RunStore
from ensgan.store.folders import ENSEMBLE_FOLDER, unknown_folder

MODEL_FILE: Final = "MLmodel"
_PREFIX: Final = "models:/"
_ADDRESS: Final = re.compile(r"models:/(?P<name>[^/@:]+)(@(?P<alias>[\w.-]+)|/(?P<version>\d+))")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,200}")
_ALIAS: Final = re.compile(r"(?!v?\d+$)(?!latest$)[A-Za-z][\w-]{0,100}")


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


def run_of_model(store: RunStore, address: str) -> str:
    """The run behind ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``; a run ID as it is.

    Raises:
        InputError: another form, or nothing is registered so.
        StoreError: the store cannot be reached.
    """
    if not is_model_address(address):
        return address
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
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    value = {
        "artifact_path": ENSEMBLE_FOLDER,
        "run_id": run_id,
        "flavors": {"python_function": {"loader_module": loader, "python_version": version}},
    }
    return yaml.safe_dump(value, sort_keys=False)
