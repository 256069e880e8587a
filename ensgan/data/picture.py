"""One image file of any kind: opened in one place, with limits before anything is decoded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ensgan.data.dicom import MAX_PIXELS, StoredImage, Take, is_dicom, open_dicom
from ensgan.data.levels import STRETCHED, is_stretched, to_8_bit
from ensgan.errors import DataError
from ensgan.files import first_bytes, map_array
from ensgan.inputs import explained, kind
from ensgan.types import UInt8Array

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "WEBP", "GIF", "PPM", "JPEG2000")
"""What Pillow may open: formats that it reads itself, without running another program."""

PICTURES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"}
)
DICOMS = frozenset({".dcm", ".dicom", ".dic", ".ima"})
SUFFIXES = PICTURES | DICOMS | {".npy"}
"""Endings of image files; files with other endings count when their content is of these kinds."""

_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"II*\0",
    b"MM\0*",
    b"GIF87a",
    b"GIF89a",
    b"\0\0\0\x0cjP  ",
)

_HEAD = 132  # bytes that tell what a file is: DICOM has its mark at the end of them

MAX_BYTES = 768 << 20
"""Most memory that decoding one file may take."""

TRANSPARENT, PLAIN = "transparent", "plain"
"""Remarks on a picture: parts of it are transparent; its 8 bits were taken as they are."""

# Bytes per pixel while a mode is decoded: Pillow's copy, two copies of its bytes, the result.
_MODE_BYTES = {"1": 4, "L": 4, "P": 14, "LA": 8, "F": 16, "I": 16, "RGB": 16}
_SHORT_BYTES, _OTHER_BYTES = 10, 24  # modes of 16 bits; modes that are converted to RGB first


class Turns:
    """Lets files that need much memory be decoded one at a time.

    Args:
        workers: threads that decode at the same time. What each may take freely is its part of
            half of the memory that is available.
    """

    def __init__(self, workers: int = 1) -> None:
        import psutil

        self._share = psutil.virtual_memory().available / 2 / max(1, workers)
        self._lock = threading.RLock()

    def take(self, needed: float) -> AbstractContextManager[Any]:
        """Wait until ``needed`` bytes may be used; they are given back on leaving.

        Raises:
            DataError: more than one file may take.
        """
        if needed > MAX_BYTES:
            raise DataError(
                f"needs {needed / 1e6:,.0f} MB of memory to decode, more than the "
                f"{MAX_BYTES / 1e6:,.0f} MB allowed per file: save it smaller"
            )
        return self._lock if needed > self._share else nullcontext()


@dataclass(frozen=True)
class PlainImage:
    """Decoded values of a file that is not DICOM: [H,W] or [H,W,3], of any number type."""

    pixels: npt.NDArray[Any]
    window: str
    remarks: frozenset[str] = frozenset()
    patient: str = ""

    def image(self) -> UInt8Array:
        """The windowed image, uint8 [H,W] or [H,W,3]."""
        return to_8_bit(self.pixels, self.window)

    def line(self) -> None:
        """These images are not shrunk from their stored values."""
        return


Picture: TypeAlias = StoredImage | PlainImage


def is_picture(path: Path) -> bool:
    """Whether the regular file is of a kind that :func:`opened` reads, by ending or by content."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if not path.stat().st_size:  # of /proc, for example, where reading may wait for ever
        return False
    head = first_bytes(path, _HEAD)
    return is_dicom(head) or _is_image(head)


def read_picture(path: Path, window: str = "auto") -> tuple[UInt8Array, str]:
    """A file as uint8 [H,W] or [H,W,3], and a hash of the patient (DICOM only, else "").

    Raises:
        DataError: the file cannot be used; the message does not name it.
    """
    with opened(path, window) as picture:
        return picture.image(), picture.patient


@contextmanager
def opened(path: Path, window: str = "auto", turns: Turns | None = None) -> Iterator[Picture]:
    """Open an image file; its format is recognised by content. All image files are opened here.

    Args:
        path: PNG, JPEG, TIFF, BMP, WebP, GIF, PNM, JPEG 2000, DICOM or ``.npy``.
        window: one of :data:`ensgan.data.levels.WINDOWS`.
        turns: shares memory with other decoding threads; released on leaving the block.

    Raises:
        DataError: the file cannot be used; the message does not name it.
    """
    turns = turns or Turns()
    if kind(path) in ("folder", "special"):
        raise DataError("is a folder, a pipe, a socket or a device, not a file")
    head, suffix = first_bytes(path, _HEAD), path.suffix.lower()
    reader: Callable[[Path, str, Take], AbstractContextManager[Picture]]
    if suffix == ".npy" or head.startswith(b"\x93NUMPY"):
        reader, what = _array, "as .npy"
    elif is_dicom(head) or (suffix not in PICTURES and not _is_image(head)):
        reader, what = open_dicom, "as DICOM (truncated or corrupt?)"
    else:
        reader, what = _image, "as an image (truncated or corrupt?)"
    with explained(f"cannot be read {what}"), reader(path, window, turns.take) as picture:
        yield picture


def _is_image(head: bytes) -> bool:
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


@contextmanager
def _array(path: Path, window: str, take: Take) -> Iterator[PlainImage]:
    pixels = map_array(path)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if not pixels.size or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise DataError(f"has shape {list(pixels.shape)}, but [H,W] or [H,W,3] is needed")
    if pixels.dtype.kind not in "uif" or pixels.size > 3 * MAX_PIXELS:
        raise DataError(f"holds {pixels.size:,} values of type {pixels.dtype}")
    with take(pixels.size * (pixels.dtype.itemsize + 2)):
        pixels = np.array(pixels)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise DataError("holds values that are not finite")
        yield _plain(pixels, window)


@contextmanager
def _image(path: Path, window: str, take: Take) -> Iterator[PlainImage]:
    with Image.open(path, formats=_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"has more than {MAX_PIXELS:,} pixels")
        is_wide = image.mode == "F" or image.mode.startswith("I")
        clear = image.has_transparency_data and not is_wide
        with take(image.width * image.height * _bytes_per_pixel(image.mode, clear)):
            frames = getattr(image, "n_frames", 1)
            # The further pictures of an MPO file are previews and other views of the first.
            if frames != 1 and image.format != "MPO":
                raise DataError(f"has {frames} frames, but one image is needed")
            image.load()
            pixels, has_clear_parts = _decoded(image, is_wide, clear)
            yield _plain(pixels, window, frozenset({TRANSPARENT} if has_clear_parts else ()))


def _bytes_per_pixel(mode: str, clear: bool) -> int:
    if mode.startswith("I;16"):
        return _SHORT_BYTES
    return _OTHER_BYTES if clear else _MODE_BYTES.get(mode, _OTHER_BYTES)


def _decoded(image: Image.Image, is_wide: bool, clear: bool) -> tuple[npt.NDArray[Any], bool]:
    """Values as a viewer shows them, and whether parts are transparent (shown on black)."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})  # of TIFF files
    white_is_zero, depth = tags.get(262) == 0, int(tags.get(258, (16,))[0])
    with suppress(OSError, SyntaxError, ValueError, TypeError, LookupError, OverflowError):
        # Follow the EXIF orientation, as viewers do; unreadable EXIF data say nothing.
        ImageOps.exif_transpose(image, in_place=True)
    if is_wide:
        pixels = _native(np.asarray(image))
        if white_is_zero:  # Pillow turns images of up to 8 bits round, wider ones not
            pixels = _inverted(pixels, depth)
        return pixels, False
    if clear:
        layers = np.asarray(image.convert("RGBA"))
        return _on_black(layers), bool(layers[..., 3].min() < 255)
    if image.mode in ("1", "LA"):
        return np.asarray(image.convert("L")), False
    pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    if image.format == "WEBP" and int(np.ptp(pixels, axis=2).max()) <= 1:
        return np.asarray(image.convert("L")), False  # WebP has no grey: rounding tints it by 1
    return pixels, False


def _on_black(layers: UInt8Array) -> UInt8Array:
    """RGBA [H,W,4] as RGB [H,W,3] before a black ground."""
    shown = np.empty((*layers.shape[:2], 3), np.uint8)
    for row, line in enumerate(layers):  # whole images would take six more bytes per pixel
        shown[row] = (line[:, :3].astype(np.uint16) * line[:, 3:] + 127) // 255
    return shown


def _inverted(pixels: npt.NDArray[Any], depth: int) -> npt.NDArray[Any]:
    if pixels.dtype == np.uint16 and depth <= 16:
        return np.asarray(np.uint16((1 << depth) - 1) - pixels)
    return np.asarray(pixels.max() - pixels + pixels.min())


def _native(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """16-bit values, which Pillow may hold as int32 or big-endian, as uint16."""
    is_wide = pixels.dtype.kind in "iu" and pixels.dtype != np.uint8
    if is_wide and pixels.min() >= 0 and pixels.max() <= 0xFFFF:
        return pixels.astype(np.uint16)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError("holds values that are not finite")
    return pixels


def _plain(
    pixels: npt.NDArray[Any], window: str, remarks: frozenset[str] = frozenset()
) -> PlainImage:
    if window == "auto":
        remarks |= {STRETCHED if is_stretched(pixels) else PLAIN}
    return PlainImage(pixels, window, remarks)
