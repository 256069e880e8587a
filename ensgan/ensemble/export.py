"""Images for other tools: a file per image, a folder per class, a table of where each came from.

Sources of what a DICOM file holds: PS3.3 A.8.1 (Secondary Capture Image), C.7.6.1, C.8.6.1
(Conversion Type ``SYN``) and the attribute Synthetic Data (0008,001C) of its SOP Common module.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from ensgan import __version__
from ensgan.outputs import claim_folder, folder_in_one_step
from ensgan.text import spreadsheet_cell
from ensgan.types import Samples, UInt8Array

ImageFormat: TypeAlias = Literal["png", "dicom"]
SUFFIXES: Final[dict[ImageFormat, str]] = {"png": ".png", "dicom": ".dcm"}
NOTICE: Final = "SYNTHETIC IMAGE, not of a patient; research only, not for clinical use"

_SYNTHETIC_DATA = 0x0008001C
_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Elements that the standard wants to be there; they are written without a value."""
_LONGEST = 1024


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
    claim_folder(folder)
    write = SecondaryCapture() if form == "dicom" else write_png
    width = len(str(len(samples) - 1))
    rows: list[tuple[object, ...]] = [("file", "label", "class", "member", "seed", "index")]
    with folder_in_one_step(folder) as whole:
        for index, (image, label) in enumerate(zip(samples.images, samples.labels, strict=True)):
            name = class_names[label]
            place = f"{label}_{re.sub(r'[^A-Za-z0-9-]+', '_', name).strip('_') or 'class'}"
            file = f"{place}/{index:0{width}d}{SUFFIXES[form]}"
            member = "" if samples.members is None else samples.member_names[samples.members[index]]
            (whole / place).mkdir(exist_ok=True)
            write(whole / file, image, Origin(ensemble, member, seed, index, int(label), name))
            rows.append((file, int(label), name, member, seed, index))
        with (whole / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([spreadsheet_cell(cell) for cell in row] for row in rows)
    return folder


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


class SecondaryCapture:
    """Writes images as one series of a new study.

    Every file gets a fresh UID (2.25.UUID) and says in five places that it is synthetic. No element
    about a patient, a person, a place or a date has a value.
    """

    def __init__(self) -> None:
        from pydicom.uid import generate_uid

        self._study, self._series = generate_uid(prefix=None), generate_uid(prefix=None)

    def __call__(self, path: Path, image: UInt8Array, origin: Origin) -> None:
        """Write one image: uint8 [H,W] as MONOCHROME2, uint8 [H,W,3] as RGB."""
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

        dataset: Any = Dataset()
        for keyword in _EMPTY:
            setattr(dataset, keyword, "")
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.SOPClassUID = SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = generate_uid(prefix=None)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = self._study, self._series
        dataset.Modality, dataset.ConversionType = "OT", "SYN"
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        dataset.add_new(_SYNTHETIC_DATA, "CS", "YES")
        dataset.StudyDescription = "SYNTHETIC images made by ensgan"
        dataset.SeriesDescription = f"SYNTHETIC ensemble {origin.ensemble[:16]}"
        dataset.ImageComments = NOTICE
        dataset.DerivationDescription = provenance(origin)[:_LONGEST]
        dataset.Manufacturer, dataset.SoftwareVersions = "ensgan", __version__
        dataset.SeriesNumber, dataset.InstanceNumber = 1, origin.index + 1
        dataset.BurnedInAnnotation = "NO"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        colours = "MONOCHROME2" if image.ndim == 2 else "RGB"
        dataset.set_pixel_data(image, colours, bits_stored=8, generate_instance_uid=False)
        dataset.save_as(path, enforce_file_format=True)
