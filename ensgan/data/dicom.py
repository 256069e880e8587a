"""DICOM files: opened within limits of memory, and their values as grey levels.

Files may lack a preamble, be deflated or compressed. Values go through modality and VOI transforms,
padding and MONOCHROME1 inversion. Header values other than the ones that describe the pixels are
neither kept nor shown.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

import ensgan.data.levels as levels
from ensgan.errors import DataError
from ensgan.inputs import explained
from ensgan.types import Float64Array, UInt8Array

if TYPE_CHECKING:
    from pydicom import Dataset as DicomDataset

MAX_PIXELS = 200_000_000
MAX_INFLATED = 256 << 20
"""Most bytes that a deflated file may unpack to."""

Take: TypeAlias = Callable[[float], AbstractContextManager[Any]]
"""Waits until so many bytes of memory may be used."""

_CODECS = "pip install 'ensgan[dicom]' (pylibjpeg, pylibjpeg-libjpeg, pylibjpeg-openjpeg)"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_DEFERRED = 1 << 16  # longer values are read when asked for: limits come before the pixels
_BLOCK = 1 << 20
# Values that newer objects keep in groups per frame, and older ones at the top.
_FRAME_GROUPS = ("FrameVOILUTSequence", "PixelValueTransformationSequence")
_TRANSFORMS = ("WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept")


@contextmanager
def open_dicom(path: Path, window: str = "auto", take: Take = nullcontext) -> Iterator[StoredImage]:
    """Decode a file.

    Args:
        path: a single-frame MONOCHROME1 or MONOCHROME2 image, with or without a preamble.
        window: one of :data:`ensgan.data.levels.WINDOWS`; "auto" is the file's VOI LUT or first
            window (DICOM PS3.3 C.11.2), else the 2–98 percentile window. Pixel padding takes no
            part in percentiles and is black.
        take: reserves memory for as long as the block runs.

    Raises:
        DataError: not DICOM, no pixels, a missing codec, colour or several frames. The message does
            not name the file. What a damaged file makes pydicom raise goes to the caller.
    """
    dataset = _read(path)
    _bring_to_the_top(dataset)
    with take(_needed_bytes(dataset, path.stat().st_size)):
        with explained("its pixels cannot be decoded (truncated or corrupt?)"):
            pixels = _pixels(dataset)
        yield StoredImage(pixels, dataset, window)


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so (132 bytes) is DICOM: by its mark, or as a bare data set."""
    return head[128:132] == b"DICM" or _is_bare(head)


def _is_bare(head: bytes) -> bool:
    """A data set without preamble: group 2 or 8, then a type of value or a short length."""
    group, element = head[:2], int.from_bytes(head[2:4], "little")
    if len(head) < 8 or group not in (b"\2\0", b"\x08\0") or element > 0x1200:
        return False
    is_explicit = head[4:6].isalpha() and head[4:6].isupper()
    return is_explicit or int.from_bytes(head[4:8], "little") <= 1024


def _read(path: Path) -> DicomDataset:
    """The elements of a file; what is deflated is unpacked within :data:`MAX_INFLATED`."""
    from pydicom import dcmread
    from pydicom.filereader import read_dataset

    with path.open("rb") as stream:
        head = stream.read(132)
        if not is_dicom(head):
            raise DataError("is not a DICOM file")
        is_bare = _is_bare(head)
        stream.seek(0 if is_bare else 132)
        meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag.group != 2)
        if str(meta.get("TransferSyntaxUID", "")) == _DEFLATED:
            return _with_syntax(read_dataset(BytesIO(_inflated(stream)), False, True))
    dataset = dcmread(path, defer_size=_DEFERRED, force=is_bare)
    return _with_syntax(dataset) if is_bare else dataset


def _with_syntax(dataset: DicomDataset) -> DicomDataset:
    """Say how the values are written where the file does not."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    meta = getattr(dataset, "file_meta", None) or FileMetaDataset()
    if "TransferSyntaxUID" not in meta:
        is_implicit = dataset.original_encoding[0]
        syntax = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
        meta.TransferSyntaxUID = syntax
    dataset.file_meta = meta
    return dataset


def _inflated(stream: BinaryIO) -> bytes:
    """What is left of ``stream``, unpacked.

    Raises:
        DataError: it would be longer than :data:`MAX_INFLATED`.
    """
    unpacker, parts, total = zlib.decompressobj(-zlib.MAX_WBITS), [], 0
    while block := unpacker.unconsumed_tail or stream.read(_BLOCK):
        parts.append(unpacker.decompress(block, _BLOCK))
        total += len(parts[-1])
        if total > MAX_INFLATED:
            raise DataError(f"is deflated and would unpack to more than {MAX_INFLATED:,} bytes")
        if unpacker.eof:
            break
    return b"".join(parts)


def _bring_to_the_top(dataset: DicomDataset) -> None:
    """Windows and slopes of a frame's functional groups go where older objects have them.

    Those that are there but empty count as absent (type 2 elements may be empty).
    """
    for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for groups in list(dataset.get(sequence) or [])[:1]:
            for name in _FRAME_GROUPS:
                for item in list(groups.get(name) or [])[:1]:
                    for element in item:
                        dataset.add(element)
    for name in _TRANSFORMS:
        if name in dataset and dataset[name].is_empty:
            del dataset[name]


def _needed_bytes(dataset: DicomDataset, size: int) -> float:
    """Memory that decoding takes; refuses what is no single grey image of bounded size.

    Args:
        dataset: the file's elements.
        size: bytes of the file, which all may be read.
    """
    if "PixelData" not in dataset:
        raise DataError("has no pixels")
    kind = str(dataset.get("PhotometricInterpretation", "missing"))
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"is {kind}, but MONOCHROME1 or MONOCHROME2 is needed")
    frames = number_of(dataset, "NumberOfFrames", 1)
    if frames != 1:
        raise DataError(f"has {frames:g} frames, but one image is needed")
    if number_of(dataset, "SamplesPerPixel", 1) != 1:
        raise DataError("has several samples per pixel, but grey is needed")
    pixels = number_of(dataset, "Rows", 0) * number_of(dataset, "Columns", 0)
    if pixels > MAX_PIXELS:
        raise DataError(f"has more than {MAX_PIXELS:,} pixels")
    depth = number_of(dataset, "BitsAllocated", 16) / 8
    # Stored values in two copies and the result; wide ones are worked on as float64.
    return size + pixels * (2 * depth + 1 + (40 if depth > 2 else 0))


def _pixels(dataset: DicomDataset) -> npt.NDArray[Any]:
    """Stored values [H,W]."""
    from pydicom.pixels import get_decoder, pixel_array

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    stored = int(dataset.BitsStored)
    is_compressed = syntax is not None and syntax.is_compressed
    if is_compressed:
        try:
            available = get_decoder(syntax).is_available
        except NotImplementedError:
            available = False
        if not available:
            raise DataError(
                f"is compressed ({syntax.name}) and no installed package decodes that: {_CODECS}"
            )
    high = number_of(dataset, "HighBit", stored - 1)
    if not is_compressed and high != stored - 1:  # pydicom takes the lowest bits all the same
        raise DataError(f"has its highest bit at {high:g}, but at {stored - 1} is needed")
    # A view of the file's bytes where it is not compressed: they are only read. Unused bits
    # must be cleared in a copy, and pydicom warns of every file that it copies unasked.
    whole = stored == int(dataset.BitsAllocated)
    pixels: npt.NDArray[Any] = pixel_array(dataset, raw=True, view_only=whole)
    if pixels.ndim != 2 or not pixels.size:
        raise DataError(f"decodes to shape {list(pixels.shape)}, but [H,W] is needed")
    return np.ascontiguousarray(pixels)


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
        shown = levels.quantise(self._windowed(values, known))
        shown = 255 - shown if self.inverted else shown
        shown[padding] = 0
        return shown

    def _windowed(self, values: Float64Array, seen: Float64Array) -> Float64Array:
        """Modality values to 0…1; ``seen`` are modality values that occur in the image."""
        dataset = self.dataset
        if self.window == "auto" and self._has_window:
            if dataset.get("VOILUTSequence"):
                return levels.voi_table(values, dataset.VOILUTSequence[0])
            return levels.voi_window(values, dataset)
        if self.window == "full":
            bits, signed = int(dataset.BitsStored), int(dataset.get("PixelRepresentation", 0))
            ends = np.array([0, (1 << bits) - 1]) - (1 << (bits - 1)) * signed
            kind = np.int64 if signed else np.uint64
            low, high = np.sort(_modality(ends.astype(kind), dataset))
            return levels.linear(values, float(low), float(high))
        return levels.linear(values, *levels.percentile_window(seen))

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
