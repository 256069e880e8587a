"""Publishing an ensemble: one folder of tensors, one manifest, one card."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ensgan.ensemble.card import card_text
from ensgan.ensemble.loading import is_whole_ensemble
from ensgan.ensemble.manifest import (
    CARD,
    MANIFEST,
    SCHEMA,
    SCHEMA_VERSION,
    manifest_from,
    member_file,
)
from ensgan.ensemble.members import kind_named
from ensgan.ensemble.weights import read_tensor_infos, refuse_non_finite
from ensgan.errors import InputError
from ensgan.files import sha256_file, write_bytes, write_json
from ensgan.outputs import claim_folder, folder_in_one_step
from ensgan.types import ImageShape, Samples

if TYPE_CHECKING:
    from ensgan.zoo import GANSpec


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
) -> Path:
    """Write an ensemble artifact, replacing one that is there already; all of it or nothing.

    Args:
        class_shares: share of each class among drawn labels, sum 1 (the training split's).
        metrics: scores of the ensemble with the settings they were taken at.
        dataset: of the training data: ``name``, ``key`` (SHA-256), ``licence``, ``source`` …
        extractor: of the embedding: ``name``, ``key`` …
        provenance: how it came about: versions, seeds, selection rule, run …
        licences: one note per component; the card flags non-commercial ones.

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
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
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
    claim_folder(folder, is_ours=is_whole_ensemble)
    with folder_in_one_step(folder) as temporary:
        _fill(temporary, value, members, str(folder))
    return folder


def _fill(folder: Path, value: dict[str, Any], members: Sequence[MemberSource], where: str) -> None:
    """Weights, card and, once both are hashed and checked, the manifest."""
    (folder / "members").mkdir()
    for member in members:
        shutil.copyfile(member.weights_file, folder / member_file(member.name))
    write_bytes(folder / CARD, card_text(value).encode())
    value["files"] = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        for name in (CARD, *(member_file(member.name) for member in members))
    }
    manifest = manifest_from(value, where)
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
        "file": member_file(member.name),
        "gan": None if member.spec is None else member.spec.to_json(),
        "tensors": {name: info.model_dump(mode="json") for name, info in infos.items()},
    }
