"""One image file of any kind as a square uint8 image of the wanted size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ensgan.data import levels
from ensgan.data.dicom import MAX_PIXELS, StoredImage, is_dicom, open_dicom, read_dicom
from ensgan.data.shrink import GAP, shrink
from ensgan.errors import DataError
from ensgan.types import UInt8Array

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
DICOMS = frozenset({".dcm", ".dicom"})
SUFFIXES = PICTURES | DICOMS | {".npy"}
"""Endings of image files; a file without an ending counts when it bears the DICOM mark."""

FITS = ("crop", "pad", "stretch")


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels: left, top inclusive; right, bottom exclusive."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Preparation:
    """How files become images.

    Attributes:
        size: side of the result, pixels.
        channels: 1 or 3 converts; None keeps what the file has.
        window: one of :data:`ensgan.data.levels.WINDOWS`.
        fit: what makes the image square: ``crop`` (the central square), ``pad`` (black borders)
            or ``stretch``.
        border: margin around a box, as a share of its longer side.
    """

    size: int
    channels: int | None = None
    window: str = "auto"
    fit: str = "crop"
    border: float = 0.0


@dataclass(frozen=True)
class Job:
    """One file to read, the box to cut out, and the mask whose inside gives the box."""

    path: Path
    box: Box | None = None
    mask: Path | None = None
    apply_mask: bool = False


def prepare(job: Job, preparation: Preparation) -> tuple[UInt8Array, str]:
    """Read, window, cut and resize one file.

    Returns:
        uint8 [size,size] or [size,size,3], and a hash of the patient (DICOM only, else "").

    Raises:
        DataError: the file cannot be used; the message does not name it.
    """
    if job.box is None and job.mask is None and _is_dicom_name(job.path):
        stored = open_dicom(job.path, preparation.window)
        shrunk = _shrunk(stored, preparation)
        if shrunk is not None:
            return shrunk, stored.patient
        pixels, patient = stored.image(), stored.patient
    else:
        pixels, patient = read_picture(job.path, preparation.window)
    pixels = _channels(pixels, preparation.channels)
    box = job.box
    if job.mask is not None:
        mask = _mask(job.mask, pixels)
        box = box or _bounding_box(mask)
        if job.apply_mask:
            pixels = pixels * (mask if pixels.ndim == 2 else mask[..., None])
    size = (preparation.size, preparation.size)
    if box is not None:
        square = cut_square(pixels, box, preparation.border)
    else:
        square = make_square(pixels, preparation.fit)
    image = Image.fromarray(square)
    return np.asarray(
        image.resize(size, Image.Resampling.LANCZOS, reducing_gap=GAP), np.uint8
    ), patient


def _is_dicom_name(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix != ".npy" and suffix not in PICTURES


def _shrunk(stored: StoredImage, preparation: Preparation) -> UInt8Array | None:
    """The short way for large files with a linear window; None where it does not fit."""
    line = stored.line()
    if line is None or preparation.fit == "pad":
        return None
    pixels = stored.pixels
    if preparation.fit == "crop":
        side = min(pixels.shape)
        top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
        pixels = pixels[top : top + side, left : left + side]
    small = shrink(pixels, line, preparation.size)
    return None if small is None else _channels(small, preparation.channels)


def is_picture(path: Path) -> bool:
    """Whether the file is of a kind :func:`read_picture` reads."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES or (not suffix and is_dicom(path))


def read_picture(path: Path, window: str = "auto") -> tuple[UInt8Array, str]:
    """A file as uint8 [H,W] or [H,W,3], and a hash of the patient (DICOM only, else "").

    Raises:
        DataError: the file cannot be used; the message does not name it.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return levels.to_8_bit(_read_array(path), window), ""
    if suffix in PICTURES:
        return levels.to_8_bit(_read_image(path), window), ""
    return read_dicom(path, window)


def _read_array(path: Path) -> npt.NDArray[Any]:
    try:
        pixels: npt.NDArray[Any] = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot be read as .npy (truncated, or objects?): {error}") from error
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if not pixels.size or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise DataError(f"has shape {list(pixels.shape)}, but [H,W] or [H,W,3] is needed")
    if pixels.dtype.kind not in "uif" or pixels.size > 3 * MAX_PIXELS:
        raise DataError(f"holds {pixels.size:,} values of type {pixels.dtype}")
    pixels = np.array(pixels)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError("holds values that are not finite")
    return pixels


def _read_image(path: Path) -> npt.NDArray[Any]:
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"has more than {MAX_PIXELS:,} pixels")
            frames = getattr(image, "n_frames", 1)
            if frames != 1:
                raise DataError(f"has {frames} frames, but one image is needed")
            if image.mode in ("1", "LA"):
                return np.asarray(image.convert("L"))
            if image.mode in ("L", "RGB", "F", "I") or image.mode.startswith("I;16"):
                return _native(np.asarray(image))
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot be read as an image (truncated or corrupt?): {error}") from error


def _native(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """16-bit values, which Pillow may hold as int32 or big-endian, as uint16."""
    is_wide = pixels.dtype.kind in "iu" and pixels.dtype != np.uint8
    if is_wide and pixels.min() >= 0 and pixels.max() <= 0xFFFF:
        return pixels.astype(np.uint16)
    return pixels


def _channels(pixels: UInt8Array, channels: int | None) -> UInt8Array:
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2) if channels == 3 else pixels
    if channels == 3:
        return pixels
    first = pixels[..., 0]
    if np.array_equal(first, pixels[..., 1]) and np.array_equal(first, pixels[..., 2]):
        return np.ascontiguousarray(first)  # grey saved as RGB
    return np.asarray(Image.fromarray(pixels).convert("L")) if channels == 1 else pixels


def _mask(path: Path, pixels: UInt8Array) -> UInt8Array:
    """A mask file as 0/1 of the image's height and width."""
    try:
        mask, _ = read_picture(path, "full")
    except DataError as error:
        raise DataError(f"its mask {path.name} {error}") from error
    if mask.ndim == 3:
        mask = mask.max(axis=2)
    if mask.shape != pixels.shape[:2]:
        raise DataError(
            f"its mask {path.name} is {mask.shape[0]}×{mask.shape[1]} pixels, "
            f"the image {pixels.shape[0]}×{pixels.shape[1]}"
        )
    if not mask.any():
        raise DataError(f"its mask {path.name} is empty")
    return (mask > 0).astype(np.uint8)


def _bounding_box(mask: UInt8Array) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def cut_square(pixels: UInt8Array, box: Box, border: float) -> UInt8Array:
    """The square around a box with a margin; what lies outside the image is black.

    Raises:
        DataError: the box is empty or outside the image.
    """
    height, width = pixels.shape[:2]
    inside = box.left < width and box.top < height and box.right > 0 and box.bottom > 0
    if box.right <= box.left or box.bottom <= box.top or not inside:
        raise DataError(
            f"its box ({box.left:g}, {box.top:g}, {box.right:g}, {box.bottom:g}) is empty or "
            f"outside the {width}×{height} image"
        )
    side = max(box.right - box.left, box.bottom - box.top) * (1 + 2 * border)
    side = max(1, round(min(side, 4 * max(height, width))))
    left = round((box.left + box.right - side) / 2)
    top = round((box.top + box.bottom - side) / 2)
    square = np.zeros((side, side, *pixels.shape[2:]), np.uint8)
    rows = slice(max(0, top), min(height, top + side))
    columns = slice(max(0, left), min(width, left + side))
    square[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = pixels[
        rows, columns
    ]
    return square


def make_square(pixels: UInt8Array, fit: str) -> UInt8Array:
    """A square image by ``fit`` (for ``stretch`` the resampling does it)."""
    height, width = pixels.shape[:2]
    if height == width or fit == "stretch":
        return pixels
    side = min(height, width) if fit == "crop" else max(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    if fit == "crop":
        return np.ascontiguousarray(pixels[top : top + side, left : left + side])
    square = np.zeros((side, side, *pixels.shape[2:]), np.uint8)
    square[-top : height - top, -left : width - left] = pixels
    return square
