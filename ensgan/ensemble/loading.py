"""Finding an ensemble, in a folder or of the run that recorded it, and proving it whole."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ensgan.ensemble.ensemble import Ensemble
from ensgan.ensemble.manifest import (
    CARD,
    MANIFEST,
    Manifest,
    MemberEntry,
    check_digest,
    check_size,
    ensemble_digest,
    read_manifest,
    unlisted_files,
)
from ensgan.ensemble.members import kind_named
from ensgan.ensemble.weights import read_tensor_infos, refuse_non_finite
from ensgan.errors import InputError, IntegrityError
from ensgan.files import sha256_file
from ensgan.outputs import claim_folder, folder_in_one_step, one_at_a_time
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
    if not is_model_address(str(source)) and (
        folder.exists() or any(sign in str(source) for sign in "/\\.")
    ):
        raise InputError(
            f"there is no ensemble folder '{source}': name a folder with {MANIFEST}, or a run ID"
        )
    store = open_store(uri, storage)
    run_id = run_of_model(store, str(source))
    return open_folder(cached(store, run_id, storage or default_storage()))


def open_folder(folder: Path) -> Ensemble:
    """Verify an ensemble folder and open it.

    Raises:
        IntegrityError: anything in it is not as its manifest says.
    """
    return Ensemble(folder, verify_folder(folder))


def verify_folder(folder: Path) -> Manifest:
    """Re-hash every file, compare every tensor's name, type and shape, and look for NaN.

    Raises:
        IntegrityError: with the first thing that is not as the manifest says.
    """
    manifest = read_manifest(folder)
    if (folder / "members").is_symlink():
        raise IntegrityError(f"{folder / 'members'} is a link: only plain files are accepted")
    for name in manifest.files:
        check_size(folder, manifest, name)
    for entry in manifest.members:
        if read_tensor_infos(folder / entry.file) != entry.tensors:
            raise IntegrityError(
                f"{entry.file} does not hold the tensors that the manifest lists for {entry.name}"
            )
        kind_named(entry.kind).check(entry, manifest)

    def check_content(name: str) -> None:
        check_digest(manifest, name, sha256_file(folder / name))

    def check_values(entry: MemberEntry) -> None:
        refuse_non_finite(folder / entry.file, entry.tensors)

    # Hashing and summing leave Python's lock to others: two threads halve the wait.
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(check_content, manifest.files))
        list(threads.map(check_values, manifest.members))
    return manifest


def is_whole_ensemble(folder: Path) -> bool:
    """Whether a folder holds an ensemble and nothing else, so that it may be replaced."""
    try:
        return not unlisted_files(folder, read_manifest(folder))
    except IntegrityError:
        return False


def pull(store: RunStore, run_id: str, destination: Path) -> Ensemble:
    """Fetch a run's ensemble to a new folder and verify it there.

    Raises:
        InputError: no such run, it has no ensemble, or ``destination`` is in use.
        IntegrityError: what arrived is not what was recorded; nothing is left behind.
    """
    claim_folder(destination)
    return Ensemble(destination, _fetch(store, run_id, destination))


def _fetch(store: RunStore, run_id: str, destination: Path) -> Manifest:
    """Put a run's ensemble, once verified, in the place of ``destination``."""
    expected = store.get(run_id).tags.get(TAG_DIGEST)
    with folder_in_one_step(destination) as arriving:
        store.fetch(run_id, ENSEMBLE_FOLDER, arriving)
        manifest = verify_folder(arriving)
        if expected is not None and ensemble_digest(arriving) != expected:
            raise IntegrityError(
                f"the ensemble of run {run_id} is not the one that its sweep recorded: its "
                f"{MANIFEST} has another SHA-256"
            )
    return manifest


def cached(store: RunStore, run_id: str, storage: Path) -> Path:
    """Folder with the ensemble of a run, fetched when the cache does not hold this very one.

    Processes that ask at the same time fetch it once; a folder that others may be reading is
    replaced only when it holds another ensemble than the run's.
    """
    expected = store.get(run_id).tags.get(TAG_DIGEST)
    if expected is None:
        content = store.read(run_id, f"{ENSEMBLE_FOLDER}/{MANIFEST}")
        expected = hashlib.sha256(content).hexdigest()
    folder = storage / "cache" / "ensembles" / run_id

    def is_there() -> bool:
        return (folder / MANIFEST).is_file() and ensemble_digest(folder) == expected

    if not is_there():
        with one_at_a_time(folder.with_name(f".{run_id}.lock")):
            if not is_there():  # another process may have been faster
                claim_folder(folder, is_ours=_is_cache_entry)
                _fetch(store, run_id, folder)
    return folder


def _is_cache_entry(folder: Path) -> bool:
    """Whether a folder of the cache holds an ensemble, damaged or not, and nothing else."""
    names = {path.name for path in folder.iterdir()}
    return MANIFEST in names and names <= {MANIFEST, CARD, "MLmodel", "members"}
