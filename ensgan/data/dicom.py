"""Grey DICOM images: modality and VOI transforms, MONOCHROME1 inversion, clear refusals.

Header values other than the ones that describe the pixels are neither kept nor shown.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ensgan.data import levels
from ensgan.data.shrink import Line
from ensgan.errors import DataError
from ensgan.types import Float64Array, UInt8Array

if TYPE_CHECKING:
    from pydicom import Dataset as DicomDataset

MAX_PIXELS = 200_000_000

_CODECS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
# What pydicom raises for damaged files.
_BROKEN = (
    AttributeError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class StoredImage:
    """A decoded file before its window.

    Attributes:
        pixels: stored values [H,W].
        dataset: the file's elements, which say what the values mean.
        window: one of :data:`ensgan.data.levels.WINDOWS`.
    """

    pixels: npt.NDArray[Any]
    dataset: DicomDataset
    window: str

    @property
    def patient(self) -> str:
        """A hash of the PatientID, "" when there is none."""
        return _patient(self.dataset)

    @property
    def inverted(self) -> bool:
        """Whether the lowest value is white."""
        return bool(self.dataset.PhotometricInterpretation == "MONOCHROME1")

    def image(self) -> UInt8Array:
        """The windowed image, uint8 [H,W].

        Raises:
            DataError: an unusable modality or VOI transform.
        """
        pixels, dataset, window = self.pixels, self.dataset, self.window
        # Work on the table of stored values rather than on millions of pixels.
        if pixels.dtype.itemsize <= 2:
            unsigned = np.dtype(f"u{pixels.dtype.itemsize}")
            count = 1 << (8 * pixels.dtype.itemsize)
            stored = np.arange(count, dtype=unsigned).view(pixels.dtype)
            indices = pixels.view(unsigned)
            values = _modality(stored, dataset)
            seen = values[levels.sample(indices)]
            table = levels.quantise(_windowed(values, seen, dataset, window))
            image = levels.look_up(indices, table)
        else:
            values = _modality(pixels, dataset)
            seen = levels.sample(values)
            image = levels.quantise(_windowed(values, seen, dataset, window))
        if self.inverted:
            np.subtract(255, image, out=image)
        return image

    def line(self) -> Line | None:
        """The percentile window over stored values as a straight line.

        None where the values need a table: windows of the file's own, a modality LUT, a falling
        rescale slope (it swaps the ends), more than 16 bits.
        """
        dataset = self.dataset
        own = dataset.get("VOILUTSequence") or "WindowCenter" in dataset
        if self.window == "full" or (self.window == "auto" and own):
            return None
        try:
            slope = float(dataset.get("RescaleSlope", 1) or 1)
        except _BROKEN:
            return None  # the other way says what is wrong with it
        if dataset.get("ModalityLUTSequence") or slope <= 0 or self.pixels.dtype.itemsize != 2:
            return None
        # A straight line upwards keeps the order, so percentiles may be taken before it.
        return Line(*levels.percentile_window(levels.sample(self.pixels)), self.inverted)


def open_dicom(path: Path, window: str = "auto") -> StoredImage:
    """Decode a file.

    Args:
        path: a single-frame MONOCHROME1 or MONOCHROME2 image.
        window: one of :data:`ensgan.data.levels.WINDOWS`; "auto" is the file's VOI LUT or first
            window (DICOM PS3.3 C.11.2), else the 2–98 percentile window.

    Raises:
        DataError: not DICOM, no pixels, truncated, a missing codec, colour or several frames. The
            message does not name the file.
    """
    dataset = _read(path)
    _require_one_grey_image(dataset)
    return StoredImage(_pixels(dataset), dataset, window)


def read_dicom(path: Path, window: str = "auto") -> tuple[UInt8Array, str]:
    """The image of a file as uint8 [H,W], and a hash of its PatientID ("" when it has none).

    Arguments and errors as for :func:`open_dicom`.
    """
    stored = open_dicom(path, window)
    return stored.image(), stored.patient


def is_dicom(path: Path) -> bool:
    """Whether the file has the DICOM mark after its preamble."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _read(path: Path) -> DicomDataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return dcmread(path)
    except InvalidDicomError as error:
        raise DataError("is not a DICOM file") from error
    except _BROKEN as error:
        raise DataError(f"cannot be read (truncated or corrupt?): {_short(error)}") from error


def _require_one_grey_image(dataset: DicomDataset) -> None:
    if "PixelData" not in dataset:
        raise DataError("has no pixels")
    kind = str(dataset.get("PhotometricInterpretation", "missing"))
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"is {kind}, but MONOCHROME1 or MONOCHROME2 is needed")
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames != 1:
        raise DataError(f"has {frames} frames, but one image is needed")
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise DataError("has several samples a pixel, but grey is needed")
    if int(dataset.get("Rows", 0)) * int(dataset.get("Columns", 0)) > MAX_PIXELS:
        raise DataError(f"has more than {MAX_PIXELS:,} pixels")


def _pixels(dataset: DicomDataset) -> npt.NDArray[Any]:
    """Stored values [H,W]."""
    from pydicom.pixels import get_decoder, pixel_array

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_compressed:
        try:
            available = get_decoder(syntax).is_available
        except NotImplementedError:
            available = False
        if not available:
            raise DataError(
                f"is compressed ({syntax.name}) and no installed package decodes that: {_CODECS}"
            )
    try:
        # A view of the file's bytes where it is not compressed: they are only read. Unused bits
        # must be cleared in a copy, and pydicom warns of every file that it copies unasked.
        whole = int(dataset.BitsStored) == int(dataset.BitsAllocated)
        pixels: npt.NDArray[Any] = pixel_array(dataset, raw=True, view_only=whole)
    except _BROKEN as error:
        raise DataError(
            f"its pixels cannot be decoded (truncated or corrupt?): {_short(error)}"
        ) from error
    if pixels.ndim != 2 or not pixels.size:
        raise DataError(f"decodes to shape {list(pixels.shape)}, but [H,W] is needed")
    return np.ascontiguousarray(pixels)


def _modality(values: npt.NDArray[Any], dataset: DicomDataset) -> Float64Array:
    """Stored values to modality values: the modality LUT or rescale slope and intercept."""
    from pydicom.pixels import apply_modality_lut

    try:
        return np.asarray(apply_modality_lut(values, dataset), np.float64)
    except _BROKEN as error:
        raise DataError(f"its modality transform is unusable: {_short(error)}") from error


def _windowed(
    values: Float64Array, seen: Float64Array, dataset: DicomDataset, window: str
) -> Float64Array:
    """Modality values to 0…1; ``seen`` are modality values that occur in the image."""
    if window == "auto":
        if dataset.get("VOILUTSequence"):
            return _voi_table(values, dataset.VOILUTSequence[0])
        if "WindowCenter" in dataset and "WindowWidth" in dataset:
            return _voi_window(values, dataset)
    if window == "full":
        bits, signed = int(dataset.BitsStored), int(dataset.get("PixelRepresentation", 0))
        ends = np.array([0, (1 << bits) - 1]) - (1 << (bits - 1)) * signed
        kind = np.int64 if signed else np.uint64
        low, high = np.sort(_modality(ends.astype(kind), dataset))
        return levels.linear(values, float(low), float(high))
    return levels.linear(values, *levels.percentile_window(seen))


def _voi_window(values: Float64Array, dataset: DicomDataset) -> Float64Array:
    """The first window, by its VOI LUT function (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    try:
        center, width = (_first(dataset[name].value) for name in ("WindowCenter", "WindowWidth"))
    except _BROKEN as error:
        raise DataError("its window has no centre or width") from error
    function = str(dataset.get("VOILUTFunction", "LINEAR") or "LINEAR")
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise DataError(f"its window width is {width:g}")
    if function == "SIGMOID":
        exponent = np.clip(-4 * (values - center) / width, -60, 60)
        return np.asarray(1 / (1 + np.exp(exponent)), np.float64)
    if function == "LINEAR_EXACT":
        return levels.linear(values, center - width / 2, center + width / 2)
    # Width 1 is a threshold at center − 0.5.
    return levels.linear(values, center - width / 2, center + width / 2 - 1 + 1e-9)


def _voi_table(values: Float64Array, item: DicomDataset) -> Float64Array:
    try:
        count, first, bits = (int(number) for number in item.LUTDescriptor)
        data = item.LUTData
        count = count or 1 << 16
        if isinstance(data, bytes):
            table = np.frombuffer(data, "<u2" if len(data) >= 2 * count else "u1")[:count]
        else:
            table = np.asarray(data)[:count]
        position = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.intp)
        return levels.linear(table[position].astype(np.float64), 0.0, (1 << bits) - 1.0)
    except (*_BROKEN, IndexError, ZeroDivisionError) as error:
        raise DataError(f"its VOI LUT is unusable: {_short(error)}") from error


def _first(value: Any) -> float:
    return float(value[0]) if hasattr(value, "__getitem__") and len(value) else float(value)


def _patient(dataset: DicomDataset) -> str:
    identity = str(dataset.get("PatientID", "") or "").strip()
    return hashlib.sha256(identity.encode()).hexdigest()[:16] if identity else ""


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:157] + "…"
