"""DICOM images: transforms against pydicom's own, inversion, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset as DicomDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from ensgan.data.dicom import StoredImage, open_dicom
from ensgan.data.picture import read_picture
from ensgan.data.prepare import Job, Preparation, make_square, prepare
from ensgan.errors import DataError

WriteDicom = Callable[..., Path]


def stored(bits: int = 12, signed: bool = False, shape: tuple[int, int] = (40, 30)) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << bits, shape)
    if signed:
        values = values - (1 << (bits - 1))
    return values.astype(np.int16 if signed else np.uint16)


def opened_file(path: Path, window: str = "auto") -> StoredImage:
    with open_dicom(path, window) as stored:
        return stored


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rescale", [None, (2.0, -100.0)])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_those_of_pydicom(
    tmp_path: Path,
    write_dicom: WriteDicom,
    bits: int,
    signed: bool,
    rescale: tuple[float, float] | None,
    function: str,
) -> None:
    tags: dict[str, Any] = {"WindowCenter": 900, "WindowWidth": 1500, "VOILUTFunction": function}
    if rescale:
        tags |= {"RescaleSlope": rescale[0], "RescaleIntercept": rescale[1]}
    path = write_dicom(tmp_path / "a.dcm", stored(bits, signed), bits=bits, **tags)
    dataset = dcmread(path)
    expected = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    # pydicom spreads the window over the range of the stored bits.
    ends = np.array([0, (1 << bits) - 1.0]) - (1 << (bits - 1)) * signed
    if rescale:
        ends = ends * rescale[0] + rescale[1]
    expected = 255 * (expected - ends[0]) / (ends[1] - ends[0])
    np.testing.assert_allclose(read_picture(path)[0], expected, atol=0.51)


def test_a_voi_table_is_that_of_pydicom(tmp_path: Path, write_dicom: WriteDicom) -> None:
    item = DicomDataset()
    item.LUTDescriptor = [1024, 1000, 16]
    item.LUTData = (np.sqrt(np.linspace(0, 1, 1024)) * 65535).astype(np.uint16).tobytes()
    item["LUTData"].VR = "OW"
    item["LUTDescriptor"].VR = "US"
    path = write_dicom(tmp_path / "a.dcm", stored(), VOILUTSequence=[item])
    dataset = dcmread(path)
    expected = apply_voi_lut(dataset.pixel_array, dataset) / 65535 * 255
    np.testing.assert_allclose(read_picture(path)[0], expected, atol=0.51)


def test_a_modality_table_is_applied(tmp_path: Path, write_dicom: WriteDicom) -> None:
    item = DicomDataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.LUTData = np.arange(4095, -1, -1, dtype=np.uint16).tobytes()
    item.ModalityLUTType = "US"
    item["LUTData"].VR = "OW"
    item["LUTDescriptor"].VR = "US"
    values = stored()
    path = write_dicom(tmp_path / "a.dcm", values, ModalityLUTSequence=[item])
    image = read_picture(path, "percentile")[0]
    assert image[values == values.max()].max() == 0
    assert image[values == values.min()].min() == 255


@pytest.mark.parametrize("bits", [12, 16])
def test_monochrome1_is_the_inverse(tmp_path: Path, write_dicom: WriteDicom, bits: int) -> None:
    values = stored(bits)
    plain = read_picture(write_dicom(tmp_path / "a.dcm", values, bits=bits))[0]
    inverse = write_dicom(
        tmp_path / "b.dcm", values, bits=bits, PhotometricInterpretation="MONOCHROME1"
    )
    np.testing.assert_array_equal(read_picture(inverse)[0], 255 - plain)


def test_without_a_window_the_percentiles_are_taken(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    values = stored()
    values[0, 0] = 4095
    image = read_picture(write_dicom(tmp_path / "a.dcm", values))[0]
    low, high = np.percentile(values, (2, 98))
    expected = np.clip((values - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(image, expected, atol=0.51)
    full = read_picture(tmp_path / "a.dcm", "full")[0]
    np.testing.assert_allclose(full, values / 4095 * 255, atol=0.51)


def test_eight_and_thirty_two_bits(tmp_path: Path, write_dicom: WriteDicom) -> None:
    eight = stored(8).astype(np.uint8)
    path = write_dicom(tmp_path / "a.dcm", eight, bits=8)
    np.testing.assert_array_equal(read_picture(path, "full")[0], eight)
    wide = stored(16).astype(np.uint32) * 1000
    path = write_dicom(tmp_path / "b.dcm", wide, bits=32)
    low, high = np.percentile(wide, (2, 98))
    expected = np.clip((wide - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(read_picture(path)[0], expected, atol=0.51)


def test_a_flat_image_is_black_and_the_patient_is_hashed(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    flat = np.full((8, 8), 77, np.uint16)
    image, patient = read_picture(write_dicom(tmp_path / "a.dcm", flat, PatientID="Doe^Jane"))
    assert image.max() == 0
    assert len(patient) == 16
    assert "Doe" not in patient
    assert read_picture(write_dicom(tmp_path / "b.dcm", flat, PatientID=" "))[1] == ""


def test_unusable_files_say_why(tmp_path: Path, write_dicom: WriteDicom) -> None:
    good = write_dicom(tmp_path / "good.dcm", stored(shape=(200, 200)))
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(good.read_bytes()[:40_000])
    text = tmp_path / "text.dcm"
    text.write_text("not a DICOM file, but long enough to have a preamble" * 10)
    colour = np.zeros((8, 8, 3), np.uint8)
    cases = {
        cut: "truncated",
        text: "not a DICOM file",
        tmp_path / "absent.dcm": "cannot be read",
        write_dicom(tmp_path / "none.dcm", stored(), PixelData=None): "no pixels",
        write_dicom(
            tmp_path / "rgb.dcm", colour, bits=8, PhotometricInterpretation="RGB"
        ): "is RGB, but MONOCHROME1 or MONOCHROME2",
        write_dicom(tmp_path / "frames.dcm", stored(), NumberOfFrames=3): "3 frames",
        write_dicom(tmp_path / "window.dcm", stored(), WindowCenter=1, WindowWidth=0): "width is 0",
    }
    for path, message in cases.items():
        with pytest.raises(DataError, match=message):
            read_picture(path)


def test_nothing_is_said_about_sound_files(
    tmp_path: Path, write_dicom: WriteDicom, caplog: pytest.LogCaptureFixture
) -> None:
    read_picture(write_dicom(tmp_path / "a.dcm", stored()))  # 12 of 16 bits
    assert not caplog.records


def test_a_missing_codec_names_the_package(tmp_path: Path, write_dicom: WriteDicom) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder
    from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, JPEGLSLossless

    missing = [
        syntax
        for syntax in (JPEG2000Lossless, JPEGLSLossless, HTJ2KLossless)
        if not get_decoder(syntax).is_available
    ]
    if not missing:
        pytest.skip("decoders for all compressed syntaxes are installed")
    path = write_dicom(
        tmp_path / "a.dcm",
        stored(),
        syntax=missing[0],
        PixelData=encapsulate([b"\xff\x4f" * 40]),
    )
    with pytest.raises(DataError, match=r"is compressed \(.*JPEG.*pylibjpeg-openjpeg"):
        read_picture(path)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", [(500, 500), (431, 647), (700, 300)])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_large_images_are_shrunk_as_by_windowing_every_pixel(
    tmp_path: Path,
    write_dicom: WriteDicom,
    shape: tuple[int, int],
    signed: bool,
    inverted: bool,
    fit: str,
) -> None:
    """The one-pass way and the way over the 8-bit image differ by a grey level at most."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: shape[0], : shape[1]] / 300
    waves = 2000 + 1400 * np.sin(5 * x) * np.cos(4 * y) + 80 * rng.standard_normal(shape)
    values = np.clip(waves, 0, 4095).astype(np.int16 if signed else np.uint16)
    kind = "MONOCHROME1" if inverted else "MONOCHROME2"
    path = write_dicom(
        tmp_path / "a.dcm",
        values - 2048 if signed else values,
        PhotometricInterpretation=kind,
        RescaleSlope=2,
        RescaleIntercept=-100,
    )
    stored = opened_file(path)
    assert stored.line() is not None
    made = prepare(Job(path), Preparation(32, fit=fit)).image
    square = make_square(stored.image(), fit)
    slow = Image.fromarray(square).resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=3.0)
    np.testing.assert_allclose(made.astype(int), np.asarray(slow, int), atol=1)


def test_windows_that_are_no_rising_line_take_the_table(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    values = np.arange(40_000, dtype=np.uint16).reshape(200, 200) % 4000
    own = write_dicom(tmp_path / "own.dcm", values, WindowCenter=2000, WindowWidth=1000)
    falling = write_dicom(tmp_path / "f.dcm", values, RescaleSlope=-1, RescaleIntercept=0)
    assert opened_file(own).line() is None
    assert opened_file(own, "percentile").line() is not None
    assert opened_file(falling).line() is None
    assert opened_file(own, "full").line() is None
