"""An ensemble's folder: tensors, a manifest, a card; written once, verified at every opening.

Nothing in an artifact is ever executed, and nothing is loaded before all of it is verified.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import ensgan.ensemble.manifest as manifests
from ensgan import store as runs
from ensgan.ensemble.card import card_text
from ensgan.ensemble.ensemble import Ensemble
from ensgan.ensemble.manifest import CARD, MANIFEST, Manifest, MemberEntry
from ensgan.ensemble.members import kind_named
from ensgan.ensemble.weights import read_tensor_infos, refuse_non_finite
from ensgan.errors import InputError, IntegrityError
from ensgan.files import sha256_file, write_bytes, write_json
from ensgan.outputs import claim_folder, folder_in_one_step, one_at_a_time
from ensgan.types import ImageShape, Samples

if TYPE_CHECKING:
    from ensgan.zoo import GANSpec

TAG_DIGEST = "ensgan.ensemble"
"""Tag of a sweep's run: SHA-256 of its ``ensemble.json``, so that a swapped artifact shows."""


def load_ensemble(
    source: str | Path, *, storage: Path | str | None = None, uri: str | None = None
) -> Ensemble:
    """Open the ensemble in a folder, or of a recorded sweep.

    Every file is re-hashed and every tensor's name and shape compared before anything is loaded;
    nothing in an artifact is ever executed.

    Args:
        source: a folder with an ``ensemble.json``, or a run as
            :func:`ensgan.store.find_run` takes it.
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
    if not runs.is_model_address(str(source)) and (
        folder.exists() or any(sign in str(source) for sign in "/\\.")
    ):
        raise InputError(
            f"there is no ensemble folder '{source}': name a folder with {MANIFEST}, or a run ID"
        )
    storage = None if storage is None else Path(storage)
    store = runs.open_store(uri, storage)
    run_id = runs.find_run(store, str(source))
    return open_folder(cached(store, run_id, storage or runs.default_storage()))


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
    manifest = manifests.read_manifest(folder)
    if (folder / "members").is_symlink():
        raise IntegrityError(f"{folder / 'members'} is a link: only plain files are accepted")
    for name in manifest.files:
        manifests.check_size(folder, manifest, name)
    for entry in manifest.members:
        if read_tensor_infos(folder / entry.file) != entry.tensors:
            raise IntegrityError(
                f"{entry.file} does not hold the tensors that the manifest lists for {entry.name}"
            )
        kind_named(entry.kind).check(entry, manifest)

    def check_content(name: str) -> None:
        manifests.check_digest(manifest, name, sha256_file(folder / name))

    def check_values(entry: MemberEntry) -> None:
        refuse_non_finite(folder / entry.file, entry.tensors)

    # Hashing and summing release Python's lock: two threads halve the wait.
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(check_content, manifest.files))
        list(threads.map(check_values, manifest.members))
    return manifest


def is_whole_ensemble(folder: Path) -> bool:
    """Whether a folder holds an ensemble and nothing else, so that it may be replaced."""
    try:
        return not manifests.unlisted_files(folder, manifests.read_manifest(folder))
    except IntegrityError:
        return False


def pull(store: runs.RunStore, run_id: str, destination: Path) -> Ensemble:
    """Fetch a run's ensemble to a new folder and verify it there.

    Raises:
        InputError: no such run, it has no ensemble, or ``destination`` is in use.
        IntegrityError: what arrived is not what was recorded; nothing is left behind.
    """
    claim_folder(destination)
    return Ensemble(destination, _fetch(store, run_id, destination))


def _fetch(store: runs.RunStore, run_id: str, destination: Path) -> Manifest:
    """Put a run's ensemble, once verified, in the place of ``destination``."""
    expected = store.get(run_id).tags.get(TAG_DIGEST)
    with folder_in_one_step(destination) as arriving:
        store.fetch(run_id, runs.ENSEMBLE_FOLDER, arriving)
        manifest = verify_folder(arriving)
        if expected is not None and manifests.ensemble_digest(arriving) != expected:
            raise IntegrityError(
                f"the ensemble of run {run_id} is not the one that its sweep recorded: its "
                f"{MANIFEST} has another SHA-256"
            )
    return manifest


def cached(store: runs.RunStore, run_id: str, storage: Path) -> Path:
    """Folder with the ensemble of a run, fetched unless the cache holds exactly this one.

    Processes that ask at the same time fetch it once; a folder that others may be reading is
    replaced only when it holds another ensemble than the run's.
    """
    expected = store.get(run_id).tags.get(TAG_DIGEST)
    if expected is None:
        content = store.read(run_id, f"{runs.ENSEMBLE_FOLDER}/{MANIFEST}")
        expected = hashlib.sha256(content).hexdigest()
    folder = storage / "cache" / "ensembles" / run_id

    def is_there() -> bool:
        return (folder / MANIFEST).is_file() and manifests.ensemble_digest(folder) == expected

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


@dataclass(frozen=True)
class MemberSource:
    """A member to publish.

    Attributes:
        name: ``GAN@STEP``.
        weight: its share of the images, any positive number; shares are scaled to sum 1.
        weights_file: safetensors state of the generator, or a bank made by :func:`write_bank`.
        spec: the GAN's row; None for a bank.
        kind: ``gan`` or ``bank``.
    """

    name: str
    weight: float
    weights_file: Path
    spec: GANSpec | None = None
    kind: Literal["gan", "bank"] = "gan"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise InputError(f"the weight of member {self.name} is {self.weight}: give it > 0")


def write_ensemble(
    folder: Path,
    *,
    members: Sequence[MemberSource],
    shape: ImageShape,
    class_names: Sequence[str],
    class_shares: Sequence[float],
    metrics: Mapping[str, Any],
    dataset: Mapping[str, Any],
    extractor: Mapping[str, Any],
    provenance: Mapping[str, Any],
    licences: Sequence[str],
    is_ours: Callable[[Path], bool] = is_whole_ensemble,
) -> Path:
    """Write an ensemble artifact, replacing one that is there already; all of it or nothing.

    Args:
        class_shares: share of each class among drawn labels, sum 1 (the training split's).
        metrics: scores of the ensemble with the settings they were taken at.
        dataset: of the training data: ``name``, ``key`` (SHA-256), ``licence``, ``source`` …
        extractor: of the embedding: ``name``, ``key`` …
        provenance: how it came about: versions, seeds, selection rule, run …
        licences: one note per component; the card flags non-commercial ones.
        is_ours: whether what lies in the folder may be replaced.

    Raises:
        InputError: no members, values that the manifest's schema refuses, or a folder with
            anything in it but an ensemble.
        IntegrityError: a weight file is no safetensors file, does not fit its GAN, or holds
            values that are not finite.
        StoreError: the disk cannot be written.
    """
    if not members:
        raise InputError("an ensemble needs at least one member")
    total = math.fsum(member.weight for member in members)
    value: dict[str, Any] = {
        "schema": manifests.SCHEMA,
        "schema_version": manifests.SCHEMA_VERSION,
        "image": {"channels": shape.channels, "size": shape.size},
        "class_names": list(class_names),
        "class_shares": [float(share) for share in class_shares],
        "members": [_entry(member, total) for member in members],
        "metrics": dict(metrics),
        "dataset": dict(dataset),
        "extractor": dict(extractor),
        "provenance": dict(provenance),
        "licences": list(licences),
    }
    claim_folder(folder, is_ours=is_ours)
    with folder_in_one_step(folder) as temporary:
        _fill(temporary, value, members, str(folder))
    return folder


def _fill(folder: Path, value: dict[str, Any], members: Sequence[MemberSource], where: str) -> None:
    """Weights, card and, once both are hashed and checked, the manifest."""
    (folder / "members").mkdir()
    for member in members:
        shutil.copyfile(member.weights_file, folder / manifests.member_file(member.name))
    write_bytes(folder / CARD, card_text(value).encode())
    value["files"] = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        for name in (CARD, *(manifests.member_file(member.name) for member in members))
    }
    manifest = manifests.manifest_from(value, where)
    for entry in manifest.members:
        kind_named(entry.kind).check(entry, manifest)
    write_json(folder / MANIFEST, value)


def write_bank(path: Path, samples: Samples) -> Path:
    """Write images and labels as a sample bank (safetensors) for a member of kind ``bank``."""
    from safetensors.numpy import save

    write_bytes(path, save({"images": samples.images, "labels": samples.labels}))
    return path


def _entry(member: MemberSource, total: float) -> dict[str, Any]:
    infos = read_tensor_infos(member.weights_file)
    refuse_non_finite(member.weights_file, infos)
    return {
        "name": member.name,
        "kind": member.kind,
        "weight": member.weight / total,
        "file": manifests.member_file(member.name),
        "gan": None if member.spec is None else member.spec.to_json(),
        "tensors": {name: info.model_dump(mode="json") for name, info in infos.items()},
    }
