"""From an image file to a square of the wanted size: boxes, masks, borders, channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ensgan.data.levels import GAP, shrink
from ensgan.data.picture import Picture, Turns, opened
from ensgan.errors import DataError
from ensgan.inputs import require_memory
from ensgan.types import UInt8Array

FITS = ("crop", "pad", "stretch")

_EVERY = 1024  # images between two reports of progress


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


class Prepared(NamedTuple):
    """uint8 [size,size] or [size,size,3], a hash of the patient ("" unknown), the file's size
    as ``WIDTH×HEIGHT``, and remarks."""

    image: UInt8Array
    patient: str
    source_size: str
    remarks: frozenset[str] = frozenset()


def prepare(job: Job, preparation: Preparation, turns: Turns | None = None) -> Prepared:
    """Read, window, cut and resize one file.

    Raises:
        DataError: the file cannot be used; the message does not name it.
    """
    turns = turns or Turns()
    with opened(job.path, preparation.window, turns) as picture:
        height, width = picture.pixels.shape[:2]
        facts = (picture.patient, f"{width}×{height}", picture.remarks)
        if job.box is None and job.mask is None:
            small = _shrunk(picture, preparation)
            if small is not None:
                return Prepared(small, *facts)
        pixels = _channels(picture.image(), preparation.channels)
        box = job.box
        if job.mask is not None:
            mask = _mask(job.mask, pixels, turns)
            box = box or bounding_box(mask)
            if job.apply_mask:
                pixels = pixels * (mask if pixels.ndim == 2 else mask[..., None])
        if box is not None:
            square = cut_square(pixels, box, preparation.border)
        else:
            square = make_square(pixels, preparation.fit)
        size = (preparation.size, preparation.size)
        image = Image.fromarray(square).resize(size, Image.Resampling.LANCZOS, reducing_gap=GAP)
        return Prepared(np.asarray(image, np.uint8), *facts)


def _shrunk(picture: Picture, preparation: Preparation) -> UInt8Array | None:
    """Shrink large files with a linear window from stored values; else None."""
    line = picture.line()
    if line is None or preparation.fit == "pad":
        return None
    pixels = picture.pixels
    if preparation.fit == "crop":
        side = min(pixels.shape)
        top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
        pixels = pixels[top : top + side, left : left + side]
    small = shrink(pixels, line, preparation.size)
    return None if small is None else _channels(small, preparation.channels)


def _channels(pixels: UInt8Array, channels: int | None) -> UInt8Array:
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2) if channels == 3 else pixels
    if channels == 3:
        return pixels
    first = pixels[..., 0]
    if np.array_equal(first, pixels[..., 1]) and np.array_equal(first, pixels[..., 2]):
        return np.ascontiguousarray(first)  # grey saved as RGB
    return np.asarray(Image.fromarray(pixels).convert("L")) if channels == 1 else pixels


def _mask(path: Path, pixels: UInt8Array, turns: Turns) -> UInt8Array:
    """A mask file as 0/1 of the image's height and width."""
    try:
        with opened(path, "full", turns) as picture:
            mask = picture.image()
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


def resize(
    images: UInt8Array, size: int, on_progress: Callable[[int, int], None] | None = None
) -> UInt8Array:
    """Resample square images with Pillow's Lanczos filter, which widens when it shrinks.

    Args:
        images: uint8 [n,H,H] or [n,H,H,3].
        size: side wanted; images already of that size are returned as they are.
        on_progress: called with (done, total).

    Raises:
        DataError: the images are not square, or the result does not fit into memory.
    """
    height, width = images.shape[1:3]
    if height != width:
        raise DataError(
            f"images are {height}×{width} pixels, not square: crop or pad them first "
            "(the 'folder' data set does it)"
        )
    if height == size:
        return images
    shape = (len(images), size, size, *images.shape[3:])
    require_memory(float(np.prod(shape, dtype=np.float64)), f"resizing to {size}×{size} pixels")
    result = np.empty(shape, np.uint8)
    for index, image in enumerate(images):
        result[index] = np.asarray(
            Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)
        )
        if on_progress is not None and index % _EVERY == 0:
            on_progress(index, len(images))
    return result


def with_channels(images: UInt8Array, channels: int | None) -> UInt8Array:
    """Grey as RGB (three equal channels) or RGB as grey (Rec. 601 luma); None leaves it.

    Args:
        images: uint8 [n,H,W] or [n,H,W,3].
        channels: 1, 3 or None.
    """
    grey = images.ndim == 3
    if channels == 3 and grey:
        return np.repeat(images[..., None], 3, axis=3)
    if channels == 1 and not grey:
        luma = images.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        return np.asarray(np.rint(luma), np.uint8)
    return images


def bounding_box(mask: UInt8Array) -> Box:
    """The smallest box around the values of ``mask`` that are not 0; there must be one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def cut_square(pixels: UInt8Array, box: Box, border: float) -> UInt8Array:
    """The square around a box with a margin; what lies outside the image is black.

    Raises:
        DataError: the box is empty or outside the image.
    """
    height, width = pixels.shape[:2]
    inside = box.left < width and box.top < height and box.right > 0 and box.bottom > 0
    if not (inside and box.right > box.left and box.bottom > box.top):
        raise DataError(
            f"its box ({box.left:g}, {box.top:g}, {box.right:g}, {box.bottom:g}) is empty or "
            f"outside the {width}×{height} image"
        )
    # Edges far outside the image would only make a huge black square.
    far = 4 * max(height, width)
    edges = np.clip([box.left, box.top, box.right, box.bottom], -far, far).tolist()
    left_edge, top_edge, right_edge, bottom_edge = edges
    side = max(right_edge - left_edge, bottom_edge - top_edge) * (1 + 2 * border)
    side = max(1, round(min(side, far)))
    left = round((left_edge + right_edge - side) / 2)
    top = round((top_edge + bottom_edge - side) / 2)
    return _cut(pixels, left, top, side)


def make_square(pixels: UInt8Array, fit: str) -> UInt8Array:
    """A square image by ``fit`` (for ``stretch`` the resampling does it)."""
    height, width = pixels.shape[:2]
    if height == width or fit == "stretch":
        return pixels
    side = min(height, width) if fit == "crop" else max(height, width)
    return _cut(pixels, (width - side) // 2, (height - side) // 2, side)


def _cut(pixels: UInt8Array, left: int, top: int, side: int) -> UInt8Array:
    """A square out of an image; what lies outside of it is black."""
    square = Image.fromarray(pixels).crop((left, top, left + side, top + side))
    return np.asarray(square)
