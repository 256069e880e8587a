"""Proof that an ensemble folder is what its manifest says, before anything in it is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ensgan.ensemble.manifest import MANIFEST, Manifest, MemberEntry, read_manifest
from ensgan.ensemble.members import kind_named
from ensgan.ensemble.weights import read_tensor_infos
from ensgan.errors import IntegrityError
from ensgan.files import sha256_file


def verify_folder(folder: Path) -> Manifest:
    """Re-hash every file and compare every tensor's name, type and shape.

    Raises:
        IntegrityError: with the first thing that is not as the manifest says.
    """
    manifest = read_manifest(folder)
    if (folder / "members").is_symlink():
        raise IntegrityError(f"{folder / 'members'} is a link: only plain files are accepted")
    for name in manifest.files:
        _check_size(folder, manifest, name)
    for entry in manifest.members:
        found = read_tensor_infos(folder / entry.file)
        if found != entry.tensor_infos():
            raise IntegrityError(
                f"{entry.file} does not hold the tensors that the manifest lists for {entry.name}"
            )
        kind_named(entry.kind).check(entry, manifest)
    for name, listed in manifest.files.items():
        if sha256_file(folder / name) != listed.sha256:
            raise _changed(name)
    return manifest


def verified_content(folder: Path, manifest: Manifest, entry: MemberEntry) -> bytes:
    """The bytes of a member's file, hashed as they were read.

    Raises:
        IntegrityError: the file is not what the manifest says.
    """
    _check_size(folder, manifest, entry.file)
    content = (folder / entry.file).read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest.files[entry.file].sha256:
        raise _changed(entry.file)
    return content


def unlisted_files(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """Files in the folder that the manifest does not know; they are never opened.

    ``MLmodel``, with which a promoted ensemble introduces itself to MLflow, is not among them.
    """
    known = {MANIFEST, "MLmodel", *manifest.files}
    paths = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return tuple(sorted({path.relative_to(folder).as_posix() for path in paths} - known))


def ensemble_digest(folder: Path) -> str:
    """SHA-256 of ``ensemble.json``, which itself holds those of all other files."""
    return sha256_file(folder / MANIFEST)


def _check_size(folder: Path, manifest: Manifest, name: str) -> None:
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise IntegrityError(
            f"{name} is missing from {folder}, or no plain file: pull the ensemble again"
        )
    size, listed = path.stat().st_size, manifest.files[name].bytes
    if size != listed:
        raise IntegrityError(f"{name} has {size} bytes where the manifest says {listed}")


def _changed(name: str) -> IntegrityError:
    return IntegrityError(
        f"{name} is not the file that was published (its SHA-256 differs): pull the ensemble again"
    )
