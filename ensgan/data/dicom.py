"""Grey DICOM values to images: modality and VOI transforms, padding, MONOCHROME1 inversion.

Header values other than the ones that describe the pixels are neither kept nor shown.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import ensgan.data.levels as levels
from ensgan.errors import DataError
from ensgan.inputs import explained
from ensgan.types import Float64Array, UInt8Array

if TYPE_CHECKING:
    from pydicom import Dataset as DicomDataset


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
    def remarks(self) -> frozenset[str]:
        """A remark where neither the file nor an option says how the values are to be shown."""
        is_guessed = self.window == "auto" and not self._has_window
        return frozenset({levels.STRETCHED} if is_guessed else ())

    @property
    def _has_window(self) -> bool:
        has_numbers = "WindowCenter" in self.dataset and "WindowWidth" in self.dataset
        return bool(self.dataset.get("VOILUTSequence")) or has_numbers

    @property
    def patient(self) -> str:
        """A hash of the PatientID, "" when there is none."""
        identity = str(self.dataset.get("PatientID", "") or "").strip()
        return hashlib.sha256(identity.encode()).hexdigest()[:16] if identity else ""

    @property
    def inverted(self) -> bool:
        """Whether the lowest value is white."""
        return bool(self.dataset.PhotometricInterpretation == "MONOCHROME1")

    def image(self) -> UInt8Array:
        """The windowed image, uint8 [H,W].

        Raises:
            DataError: an unusable modality or VOI transform.
        """
        pixels = self.pixels
        size = pixels.dtype.itemsize
        if size > 2:  # a table of all stored values would be too long
            return self._shown(pixels, levels.sample(np.arange(pixels.size).reshape(pixels.shape)))
        # Work on the table of stored values rather than on millions of pixels.
        indices = pixels.view(f"u{size}")
        stored = np.arange(1 << (8 * size), dtype=indices.dtype).view(pixels.dtype)
        return levels.look_up(indices, self._shown(stored, levels.sample(indices)))

    def _shown(self, stored: npt.NDArray[Any], seen: npt.NDArray[Any]) -> UInt8Array:
        """Grey levels of stored values, padding black; ``seen``: places of some that occur."""
        values, padding = _modality(stored, self.dataset), _is_padding(stored, self.dataset)
        seen = seen.reshape(-1)
        kept = seen[~padding.flat[seen]]
        known = values.flat[kept if kept.size else seen]
        shown = levels.quantise(_windowed(values, known, self.dataset, self.window))
        shown = 255 - shown if self.inverted else shown
        shown[padding] = 0
        return shown

    def line(self) -> levels.Line | None:
        """The percentile window over stored values as a straight line.

        None where the values need a table: windows of the file's own, a modality LUT, a falling
        rescale slope (it swaps the ends), padding (black whatever the window), more than 16 bits.
        """
        dataset = self.dataset
        if self.window == "full" or (self.window == "auto" and self._has_window):
            return None
        slope = number_of(dataset, "RescaleSlope", 1)
        special = dataset.get("ModalityLUTSequence") or "PixelPaddingValue" in dataset
        if special or slope <= 0 or self.pixels.dtype.itemsize != 2:
            return None
        # A straight line upwards keeps the order, so percentiles may be taken before it.
        return levels.Line(*levels.percentile_window(levels.sample(self.pixels)), self.inverted)


def number_of(dataset: DicomDataset, name: str, default: float) -> float:
    """One finite number of the header, ``default`` where it is absent or empty."""
    value = dataset.get(name)
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"its {name} is {str(value)[:40]}, but one number is needed")
    return number


def _is_padding(stored: npt.NDArray[Any], dataset: DicomDataset) -> npt.NDArray[np.bool_]:
    """Which stored values stand for "no image here" (PS3.3 C.7.5.1.1.2)."""
    if dataset.get("PixelPaddingValue") in (None, ""):
        return np.zeros(stored.shape, np.bool_)
    first = int(number_of(dataset, "PixelPaddingValue", 0))
    last = int(number_of(dataset, "PixelPaddingRangeLimit", first))
    # Signed values may be written as unsigned ones, and the other way round.
    unsigned = np.dtype(f"u{stored.dtype.itemsize}")
    mask = (1 << (8 * stored.dtype.itemsize)) - 1
    ends = np.array([first & mask, last & mask], unsigned).view(stored.dtype)
    return np.asarray((stored >= ends.min()) & (stored <= ends.max()), np.bool_)


def _modality(values: npt.NDArray[Any], dataset: DicomDataset) -> Float64Array:
    """Stored values to modality values: the modality LUT or rescale slope and intercept."""
    from pydicom.pixels import apply_modality_lut

    with explained("its modality transform is unusable"):
        if number_of(dataset, "RescaleSlope", 1) == 0:
            raise DataError("its rescale slope is 0")
        number_of(dataset, "RescaleIntercept", 0)
        return np.asarray(apply_modality_lut(values, dataset), np.float64)


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
    with explained("its window is unusable"):
        given = (dataset[name].value for name in ("WindowCenter", "WindowWidth"))
        # Several windows are lists, of which the first is meant.
        center, width = (float(np.atleast_1d(value)[0]) for value in given)
    if not (math.isfinite(center) and math.isfinite(width)):
        raise DataError(f"its window has the centre {center:g} and the width {width:g}")
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
    with explained("its VOI LUT is unusable"):
        count, first, bits = (int(number) for number in item.LUTDescriptor)
        data = item.LUTData
        count = count or 1 << 16
        if isinstance(data, bytes):
            table = np.frombuffer(data, "<u2" if len(data) >= 2 * count else "u1")[:count]
        else:
            table = np.asarray(data)[:count]
        position = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.intp)
        return levels.linear(table[position].astype(np.float64), 0.0, (1 << bits) - 1.0)
