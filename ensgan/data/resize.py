"""Images to the size and number of channels the generators work at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from ensgan.errors import DataError
from ensgan.types import UInt8Array

_EVERY = 1024  # images between two reports of progress


def resize(
    images: UInt8Array, size: int, on_progress: Callable[[int, int], None] | None = None
) -> UInt8Array:
    """Resample square images with Pillow's Lanczos filter, which widens when it shrinks.

    Args:
        images: uint8 [n,H,H] or [n,H,H,3].
        size: side wanted; images already of that size are returned as they are.
        on_progress: called with (done, total).

    Raises:
        DataError: the images are not square.
    """
    height, width = images.shape[1:3]
    if height != width:
        raise DataError(
            f"images are {height}×{width} pixels, not square: crop or pad them first "
            "(the 'folder' data set does it)"
        )
    if height == size:
        return images
    result = np.empty((len(images), size, size, *images.shape[3:]), np.uint8)
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
