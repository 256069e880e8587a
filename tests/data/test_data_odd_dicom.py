"""DICOM files as they occur: padding, empty transforms, groups, no preamble, deflated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset as DicomDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ensgan.data import dicom
from ensgan.data.picture import read_picture
from ensgan.errors import DataError

WriteDicom = Callable[..., Path]


RNG = np.random.default_rng(0)


def noise(size: int = 16) -> np.ndarray:
    return RNG.integers(0, 256, (size, size), dtype=np.uint8)


def test_padding_takes_no_part_in_the_window(tmp_path: Path, write_dicom: WriteDicom) -> None:
    values = RNG.integers(-100, 101, (40, 40)).astype(np.int16)
    low, high = np.percentile(values[8:], (2, 98))
    expected = np.clip((values[8:] - low) / (high - low), 0, 1) * 255
    values[:8] = -3000
    values[:4] = -3010
    path = tmp_path / "a.dcm"
    for kind in ("MONOCHROME2", "MONOCHROME1"):
        for ends in ((-3010, -3000), (-3000, -3010), (62536, 62526)):  # SS written as US
            write_dicom(path, values, bits=16, PhotometricInterpretation=kind)
            dataset = dcmread(path)
            for tag, end in zip((0x00280120, 0x00280121), ends, strict=True):
                dataset.add_new(tag, "SS" if end < 0 else "US", end)
            dataset.save_as(path)
            image = read_picture(path)[0]
            assert image[:8].max() == 0
            shown = image[8:] if kind == "MONOCHROME2" else 255 - image[8:].astype(int)
            np.testing.assert_allclose(shown, expected, atol=0.51)


def test_an_image_of_padding_only_is_black(tmp_path: Path, write_dicom: WriteDicom) -> None:
    values = np.full((16, 16), 7, np.uint16)
    assert read_picture(write_dicom(tmp_path / "a.dcm", values, PixelPaddingValue=7))[0].max() == 0


@pytest.mark.parametrize("empty", ["", None])
def test_empty_transforms_count_as_absent(
    tmp_path: Path, write_dicom: WriteDicom, empty: str | None
) -> None:
    values = RNG.integers(0, 4096, (30, 30)).astype(np.uint16)
    plain = read_picture(write_dicom(tmp_path / "plain.dcm", values))[0]
    path = write_dicom(tmp_path / "a.dcm", values)
    dataset = dcmread(path)
    for name in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"):
        setattr(dataset, name, empty)
    dataset.save_as(path)
    np.testing.assert_array_equal(read_picture(path)[0], plain)


@pytest.mark.parametrize("place", ["SharedFunctionalGroups", "PerFrameFunctionalGroups"])
def test_windows_inside_functional_groups_are_used(
    tmp_path: Path, write_dicom: WriteDicom, place: str
) -> None:
    values = RNG.integers(0, 4096, (30, 30)).astype(np.uint16)
    transforms = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    window = {"WindowCenter": 900, "WindowWidth": 1500}
    old = read_picture(write_dicom(tmp_path / "old.dcm", values, **transforms, **window))[0]
    groups, voi, rescale = DicomDataset(), DicomDataset(), DicomDataset()
    for item, elements in ((voi, window), (rescale, transforms)):
        for name, value in elements.items():
            setattr(item, name, value)
    groups.FrameVOILUTSequence, groups.PixelValueTransformationSequence = [voi], [rescale]
    new = write_dicom(tmp_path / "new.dcm", values, **{f"{place}Sequence": [groups]})
    np.testing.assert_array_equal(read_picture(new)[0], old)


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_a_preamble_are_read(
    tmp_path: Path, write_dicom: WriteDicom, implicit: bool
) -> None:
    values = RNG.integers(0, 4096, (30, 30)).astype(np.uint16)
    path = write_dicom(tmp_path / "a.dcm", values)
    expected = read_picture(path)[0]
    dataset = dcmread(path)
    bare = DicomDataset()
    bare.update(dataset)
    bare.save_as(tmp_path / "bare", implicit_vr=implicit, little_endian=True)
    assert (tmp_path / "bare").read_bytes()[:2] == b"\x08\0"
    np.testing.assert_array_equal(read_picture(tmp_path / "bare")[0], expected)
    (tmp_path / "meta").write_bytes(path.read_bytes()[132:])
    np.testing.assert_array_equal(read_picture(tmp_path / "meta")[0], expected)


def test_deflated_files_are_read_within_a_limit(
    tmp_path: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = RNG.integers(0, 4096, (30, 30)).astype(np.uint16)
    plain = write_dicom(tmp_path / "a.dcm", values)
    dataset = dcmread(plain)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = tmp_path / "deflated.dcm"
    dataset.save_as(path)
    np.testing.assert_array_equal(read_picture(path)[0], read_picture(plain)[0])
    dataset.add_new(0x7FE10010, "OB", bytes(40 << 20))
    dataset.save_as(path)
    assert path.stat().st_size < 1 << 20
    monkeypatch.setattr(dicom, "MAX_INFLATED", 8 << 20)
    with pytest.raises(
        DataError, match="is deflated and would unpack to more than 8,388,608 bytes"
    ):
        read_picture(path)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Rows": 0}, "cannot be decoded"),
        ({"RescaleSlope": 0}, "rescale slope is 0"),
        ({"WindowCenter": "1e400", "WindowWidth": 3}, "centre inf|window is unusable"),
        ({"PixelRepresentation": 9}, "cannot be"),
        ({"HighBit": 15}, "its highest bit at 15, but at 11 is needed"),
    ],
)
def test_unusable_headers_are_one_sentence(
    tmp_path: Path, write_dicom: WriteDicom, tags: dict[str, object], message: str
) -> None:
    path = write_dicom(tmp_path / "a.dcm", noise().astype(np.uint16), **tags)
    with pytest.raises(DataError, match=message):
        read_picture(path)
