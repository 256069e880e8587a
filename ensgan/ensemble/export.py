"""Images for other tools: one file an image, a folder a class, a table of where each came from."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from ensgan.errors import InputError
from ensgan.files import atomic_path
from ensgan.types import Samples, UInt8Array

ImageFormat: TypeAlias = Literal["png", "dicom"]
SUFFIXES: Final[dict[ImageFormat, str]] = {"png": ".png", "dicom": ".dcm"}
NOTICE: Final = "SYNTHETIC IMAGE, not of a patient; research only, not for clinical use"


@dataclass(frozen=True)
class Origin:
    """Where one image came from; with the ensemble at hand it can be made again.

    Attributes:
        ensemble: SHA-256 of the ensemble's manifest.
        member: which generator made it.
        seed, index: it is image ``index`` of ``sample(…, seed=seed)``, with this label.
        label, class_name: its class.
    """

    ensemble: str
    member: str
    seed: int
    index: int
    label: int
    class_name: str


WriteImage: TypeAlias = Callable[[Path, UInt8Array, Origin], None]


def save_images(
    folder: Path,
    samples: Samples,
    class_names: Sequence[str],
    *,
    seed: int,
    ensemble: str,
    form: ImageFormat = "png",
) -> Path:
    """Write a folder per class and ``labels.csv`` (file, label, class, member, seed, index).

    Args:
        samples: images 0 … n-1 of ``seed``.
        ensemble: SHA-256 of the manifest of the ensemble that made them.
        form: ``png``, or ``dicom`` for Secondary Capture files marked as synthetic.

    Raises:
        InputError: ``folder`` holds other files.
        StoreError: the disk cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: name a new folder for the images")
    write = _writer(form)
    width = len(str(len(samples) - 1))
    rows = []
    for index, (image, label) in enumerate(zip(samples.images, samples.labels, strict=True)):
        name = class_names[label]
        place = f"{label}_{re.sub(r'[^A-Za-z0-9-]+', '_', name).strip('_') or 'class'}"
        file = f"{place}/{index:0{width}d}{SUFFIXES[form]}"
        member = "" if samples.members is None else samples.member_names[samples.members[index]]
        origin = Origin(ensemble, member, seed, index, int(label), name)
        with atomic_path(folder / file) as temporary:
            write(temporary, image, origin)
        rows.append((file, int(label), name, member, seed, index))
    with (
        atomic_path(folder / "labels.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(("file", "label", "class", "member", "seed", "index"))
        writer.writerows(rows)
    return folder


def _writer(form: ImageFormat) -> WriteImage:
    if form == "dicom":
        # pydicom takes a moment to import: only for those who want it.
        from ensgan.ensemble.dicom import SecondaryCapture

        return SecondaryCapture()
    return write_png


def write_png(path: Path, image: UInt8Array, origin: Origin) -> None:
    """One PNG that says in its text fields what it is and where it came from."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Description", NOTICE)
    text.add_text("Source", provenance(origin))
    Image.fromarray(image).save(path, format="PNG", pnginfo=text)


def provenance(origin: Origin) -> str:
    """Where an image came from, on one line of plain ASCII."""
    name = origin.class_name.encode("ascii", "replace").decode()
    return (
        f"ensgan ensemble {origin.ensemble}, member {origin.member or 'unknown'}, "
        f"seed {origin.seed}, image {origin.index}, class {origin.label} ({name})"
    )
