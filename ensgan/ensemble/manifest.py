"""``ensemble.json``: the manifest of an artifact, checked before anything else in it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ensgan.ensemble.weights import TensorInfo
from ensgan.errors import DataError, IntegrityError, problem_of
from ensgan.files import read_json, sha256_file
from ensgan.types import ImageShape, check_class_names
from ensgan.types.names import MEMBER_NAME

MANIFEST: Final = "ensemble.json"
CARD: Final = "README.md"
SCHEMA: Final = "ensgan.ensemble"
SCHEMA_VERSION: Final = 1
_LARGEST_MANIFEST: Final = 16 << 20
_HASH: Final = r"^[0-9a-f]{64}$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ImageEntry(_Strict):
    """Size of the images."""

    channels: Literal[1, 3]
    size: int = Field(ge=4, le=4096)


class FileEntry(_Strict):
    """A file's size and SHA-256."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=_HASH)


class MemberEntry(_Strict):
    """A member: its kind, share, weight file and what that file holds."""

    name: str
    kind: str = Field(max_length=40)
    weight: float = Field(gt=0, le=1)
    file: str
    gan: dict[str, Any] | None = None
    tensors: dict[str, TensorInfo]

    @model_validator(mode="after")
    def _plain_name_and_own_file(self) -> MemberEntry:
        if not MEMBER_NAME.fullmatch(self.name):
            raise ValueError(f"{self.name[:80]!r} cannot name a member")
        if self.file != member_file(self.name):
            raise ValueError(
                f"member {self.name} points to {self.file[:80]!r} instead of "
                f"'{member_file(self.name)}'"
            )
        return self


class Manifest(_Strict):
    """The content of ``ensemble.json``; any key beyond these is refused."""

    schema_name: Literal["ensgan.ensemble"] = Field(alias="schema")
    schema_version: int
    image: ImageEntry
    class_names: list[str] = Field(min_length=1, max_length=10_000)
    class_shares: list[float]
    members: list[MemberEntry] = Field(min_length=1, max_length=10_000)
    metrics: dict[str, Any]
    dataset: dict[str, Any]
    extractor: dict[str, Any]
    provenance: dict[str, Any]
    licences: list[str]
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _fits_together(self) -> Manifest:
        names = [member.name for member in self.members]
        if len(set(names)) != len(names):
            raise ValueError("two members have the same name")
        if not math.isclose(sum(member.weight for member in self.members), 1, abs_tol=1e-6):
            raise ValueError("the members' weights do not sum to 1")
        try:
            check_class_names(self.class_names, "class_names")
        except DataError as error:
            raise ValueError(str(error)) from error
        if len(self.class_shares) != len(self.class_names):
            raise ValueError("class_shares and class_names have different lengths")
        shares = self.class_shares
        if min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise ValueError("class_shares are not shares that sum to 1")
        if set(self.files) != {CARD, *(member.file for member in self.members)}:
            raise ValueError("'files' must list the card and every member's file, nothing else")
        return self

    @property
    def shape(self) -> ImageShape:
        """Shape of one image."""
        return ImageShape(self.image.channels, self.image.size)

    @property
    def member_names(self) -> tuple[str, ...]:
        """Names of the members in order."""
        return tuple(member.name for member in self.members)


def member_file(name: str) -> str:
    """Where the artifact keeps a member's weights."""
    return f"members/{name}.safetensors"


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``ensemble.json`` of a folder.

    Raises:
        IntegrityError: absent, too large, not JSON, of another schema, or with anything in it
            that the schema does not know.
    """
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise IntegrityError(f"{folder} is no ensemble: it has no {MANIFEST} of its own")
    try:
        return manifest_from(read_json(path, _LARGEST_MANIFEST), str(path))
    except DataError as error:
        raise IntegrityError(str(error)) from error


def manifest_from(value: Any, source: str) -> Manifest:
    """Check the content of ``ensemble.json``.

    Raises:
        IntegrityError: see :func:`read_manifest`.
    """
    if not isinstance(value, Mapping) or value.get("schema") != SCHEMA:
        raise IntegrityError(f"{source} is not an ensemble manifest: its schema is not '{SCHEMA}'")
    if value.get("schema_version") != SCHEMA_VERSION:
        raise IntegrityError(
            f"{source} has schema version {value.get('schema_version')!r}, this ensgan reads "
            f"{SCHEMA_VERSION}: install the version that wrote it"
        )
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = problem_of(first)
        if first["type"] == "extra_forbidden":
            where = ".".join(map(str, first["loc"]))
            reason = f"{where}: is no key of the schema; an artifact holds data only, names no code"
        raise IntegrityError(f"{source}: {reason}") from error


def ensemble_digest(folder: Path) -> str:
    """SHA-256 of ``ensemble.json``, which itself holds those of all other files."""
    return sha256_file(folder / MANIFEST)


def check_digest(manifest: Manifest, name: str, digest: str) -> None:
    """Compare the SHA-256 of a file, as hex digits, with the listed one.

    Raises:
        IntegrityError: it is not the file that the manifest lists.
    """
    if digest != manifest.files[name].sha256:
        raise IntegrityError(
            f"{name} is not the file that was published (its SHA-256 differs): pull the ensemble "
            "again"
        )


def unlisted_files(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """Files in the folder that the manifest does not know; they are never opened.

    ``MLmodel``, with which a promoted ensemble introduces itself to MLflow, is not among them.
    """
    known = {MANIFEST, "MLmodel", *manifest.files}
    paths = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return tuple(sorted({path.relative_to(folder).as_posix() for path in paths} - known))


def check_size(folder: Path, manifest: Manifest, name: str) -> None:
    """Make sure that a listed file is a plain file of its size.

    Raises:
        IntegrityError: it is not.
    """
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise IntegrityError(
            f"{name} is missing from {folder}, or no plain file: pull the ensemble again"
        )
    size, listed = path.stat().st_size, manifest.files[name].bytes
    if size != listed:
        raise IntegrityError(f"{name} has {size} bytes where the manifest says {listed}")
