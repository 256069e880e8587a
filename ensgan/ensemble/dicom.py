"""Synthetic images as DICOM Secondary Capture, for viewers and archives that read nothing else.

Sources: DICOM PS3.3 A.8.1 (Secondary Capture Image), C.7.6.1, C.8.6.1 (Conversion Type ``SYN``) and
the attribute Synthetic Data (0008,001C) of its SOP Common module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ensgan import __version__
from ensgan.ensemble.export import NOTICE, Origin, provenance
from ensgan.types import UInt8Array

_SYNTHETIC_DATA = 0x0008001C
_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Elements that the standard wants to be there; they are written without a value."""
_LONGEST = 1024


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
        _set_pixels(dataset, image)
        meta: Any = FileMetaDataset()
        meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta = meta
        dataset.save_as(path, enforce_file_format=True)


def _set_pixels(dataset: Any, image: UInt8Array) -> None:
    grey = image.ndim == 2
    dataset.Rows, dataset.Columns = image.shape[:2]
    dataset.SamplesPerPixel = 1 if grey else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if grey else "RGB"
    if not grey:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    pixels = image.tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OB"
