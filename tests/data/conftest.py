"""Image files made by the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import picture

WriteDicom = Callable[..., Path]


@pytest.fixture
def write_dicom() -> WriteDicom:
    """Writes stored values [H,W] as a DICOM file with the tags given."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    def write(path: Path, stored: np.ndarray, *, bits: int = 12, **tags: Any) -> Path:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID = meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        dataset.Rows, dataset.Columns = stored.shape[:2]
        dataset.SamplesPerPixel = 1 if stored.ndim == 2 else stored.shape[2]
        dataset.BitsAllocated = 8 * stored.dtype.itemsize
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        dataset.PixelRepresentation = int(stored.dtype.kind == "i")
        dataset.PhotometricInterpretation = "MONOCHROME2"
        if stored.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.PixelData = stored.tobytes()
        for name, value in tags.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ENSGAN_CACHE", str(folder))
    return folder


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for label, count in (("covid", 12), ("healthy", 20)):
        for index in range(count):
            picture(root / label / f"p{index // 2}_{label}_{index}.png")
    return root
