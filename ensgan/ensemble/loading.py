"""Finding an ensemble: a folder, or the run that recorded it."""

from __future__ import annotations

import shutil
from pathlib import Path

from ensgan.ensemble.ensemble import Ensemble, open_folder
from ensgan.ensemble.manifest import MANIFEST
from ensgan.ensemble.verify import ensemble_digest
from ensgan.errors import InputError, IntegrityError
from ensgan.store import (
    ENSEMBLE_FOLDER,
    RunStore,
    default_storage,
    is_model_address,
    open_store,
    run_of_model,
)

TAG_DIGEST = "ensgan.ensemble"
"""Tag of a sweep's run: SHA-256 of its ``ensemble.json``, so that a swapped artifact shows."""


def load_ensemble(
    source: str | Path, *, storage: Path | None = None, uri: str | None = None
) -> Ensemble:
    """Open the ensemble in a folder, or of a recorded sweep.

    Every file is re-hashed and every tensor's name and shape compared before anything is loaded;
    nothing in an artifact is ever executed.

    Args:
        source: a folder with an ``ensemble.json``, a run ID, or ``models:/NAME@ALIAS``.
        storage: folder of the sweeps (``ENSGAN_STORAGE``, else ``./ensgan-runs``).
        uri: tracking address (``MLFLOW_TRACKING_URI``, else the SQLite file in ``storage``).

    Raises:
        InputError: no such folder or run, or the run has no ensemble.
        IntegrityError: the ensemble is not as its manifest says.
        StoreError: the tracking server cannot be reached.
    """
    folder = Path(source)
    if folder.is_dir():  # needs no store, whatever address is set
        return open_folder(folder)
    run_id = str(source)
    if is_model_address(run_id):
        run_id = run_of_model(open_store(uri, storage), run_id)
    elif folder.exists() or any(sign in run_id for sign in "/\\."):
        raise InputError(
            f"there is no ensemble folder '{source}': name a folder with {MANIFEST}, or a run ID"
        )
    return open_folder(cached(open_store(uri, storage), run_id, storage or default_storage()))


def pull(store: RunStore, run_id: str, destination: Path) -> Ensemble:
    """Fetch a run's ensemble to a new folder and verify it there.

    Raises:
        InputError: no such run, it has no ensemble, or ``destination`` is in use.
        IntegrityError: what arrived is not what was recorded; nothing is left behind.
    """
    record = store.get(run_id)
    store.fetch(run_id, ENSEMBLE_FOLDER, destination)
    try:
        ensemble = open_folder(destination)
        expected = record.tags.get(TAG_DIGEST)
        if expected is not None and ensemble_digest(destination) != expected:
            raise IntegrityError(
                f"the ensemble of run {run_id} is not the one that its sweep recorded: its "
                f"{MANIFEST} has another SHA-256"
            )
    except IntegrityError:
        shutil.rmtree(destination, ignore_errors=True)
        raise
    return ensemble


def cached(store: RunStore, run_id: str, storage: Path) -> Path:
    """Folder with the ensemble of a run, fetched when the cache does not hold this very one."""
    expected = store.get(run_id).tags.get(TAG_DIGEST)
    folder = storage / "cache" / "ensembles" / run_id
    if folder.is_dir():
        manifest = folder / MANIFEST
        if expected is not None and manifest.is_file() and ensemble_digest(folder) == expected:
            return folder
        shutil.rmtree(folder)
    pull(store, run_id, folder)
    return folder
