"""Names for chosen sweeps: MLflow's model registry with aliases such as ``champion``."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Final

import yaml

from ensgan.errors import InputError
from ensgan.store.base import ENSEMBLE_FOLDER, unknown_folder
from ensgan.store.tracking import MLflowStore

MODEL_FILE: Final = "MLmodel"
_PREFIX: Final = "models:/"
_ADDRESS: Final = re.compile(r"models:/(?P<name>[^/@:]+)(@(?P<alias>[\w.-]+)|/(?P<version>\d+))")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,200}")
_ALIAS: Final = re.compile(r"(?!v?\d+$)(?!latest$)[A-Za-z][\w-]{0,100}")


def promote(store: MLflowStore, run_id: str, *, name: str, alias: str, loader: str) -> int:
    """Register the ensemble of a run as the next version of a model and give it an alias.

    A run that is registered under the name already keeps its version; only the alias moves. An
    ``MLmodel`` file beside the ensemble lets plain MLflow load it.

    Args:
        loader: importable module with MLflow's ``_load_pyfunc``.

    Returns:
        the version.

    Raises:
        InputError: the run does not exist or has no ensemble, or a name cannot be used.
        StoreError: the registry cannot be reached.
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
    with store.connection(run_id) as client:
        if not list(client.search_registered_models(f"name = '{name}'")):
            client.create_registered_model(name)
        known = client.search_model_versions(f"name = '{name}'")
        versions = [int(entry.version) for entry in known if entry.run_id == run_id]
        if not versions:
            source = f"{client.get_run(run_id).info.artifact_uri}/{ENSEMBLE_FOLDER}"
            made = client.create_model_version(name, source, run_id=run_id)
            versions = [int(made.version)]
        client.set_registered_model_alias(name, alias, str(max(versions)))
    return max(versions)


def is_model_address(text: str) -> bool:
    """Whether a text is meant as ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    return text.startswith(_PREFIX)


def run_of_model(store: MLflowStore, address: str) -> str:
    """The run behind ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises:
        InputError: another form, or nothing is registered so.
        StoreError: the registry cannot be reached.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(f"'{address}' is no model: write models:/NAME@ALIAS or models:/NAME/3")
    name, alias, version = match["name"], match["alias"], match["version"]
    if not _NAME.fullmatch(name) or store.is_empty():
        raise _unregistered(address, store.uri)
    with store.connection() as client:
        for model in client.search_registered_models(f"name = '{name}'"):
            wanted = version if alias is None else model.aliases.get(alias)
            for entry in client.search_model_versions(f"name = '{name}'"):
                if str(entry.version) == str(wanted) and entry.run_id:
                    return str(entry.run_id)
    raise _unregistered(address, store.uri)


def _model_text(run_id: str, loader: str) -> str:
    """MLflow's description of a model; without a ``data`` key the whole folder is the model."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    value = {
        "artifact_path": ENSEMBLE_FOLDER,
        "run_id": run_id,
        "flavors": {"python_function": {"loader_module": loader, "python_version": version}},
    }
    return yaml.safe_dump(value, sort_keys=False)


def _unregistered(address: str, uri: str) -> InputError:
    return InputError(
        f"nothing is registered as {address} in {uri}: 'ensgan promote RUN' registers an ensemble"
    )
