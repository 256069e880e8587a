"""A pool brought as image folders: ``real/`` and ``fake/NAME/``, embedded on the way in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ensgan.errors import DataError, InputError

if TYPE_CHECKING:
    from ensgan.embedding import Extractor
    from ensgan.metrics.files import PoolFeatures
    from ensgan.types import UInt8Array

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})


def image_files(folder: Path) -> list[Path]:
    """Images below a folder (class folders included), in the order of their names."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


def is_image_pool(folder: Path) -> bool:
    """Whether ``folder/real`` holds images."""
    return (folder / "real").is_dir() and bool(image_files(folder / "real"))


def embed_pool(
    folder: Path,
    extractor: str,
    weights: Path | None,
    on_progress: Callable[[int, int], None],
) -> PoolFeatures:
    """Embed a pool of images at the size of the first real image.

    Raises:
        DataError: a member without images, unreadable images (each is named).
        InputError: an extractor that needs labels.
    """
    import numpy as np

    from ensgan.embedding import embed
    from ensgan.metrics.files import PoolFeatures

    members = sorted(part for part in (folder / "fake").glob("*") if part.is_dir())
    empty = [part.name for part in members if not image_files(part)]
    if empty or not members:
        raise DataError(f"{folder / 'fake'} has no images for {', '.join(empty) or 'any member'}")
    real, size, channels = _real_images(folder)
    network = _extractor(extractor, weights, real)
    done = len(real)
    total = done + sum(len(image_files(part)) for part in members)
    features = [embed(real, network).features]
    on_progress(done, total)
    for part in members:
        images = _read(image_files(part), folder, size, channels)
        features.append(embed(images, network).features)
        done += len(images)
        on_progress(done, total)
    sources = [np.asarray(each) for each in features]
    names = tuple(part.name for part in members)
    return PoolFeatures(sources[0], tuple(sources[1:]), names, network.key)


def _real_images(folder: Path) -> tuple[UInt8Array, int, int]:
    from PIL import Image, UnidentifiedImageError

    files = image_files(folder / "real")
    try:
        with Image.open(files[0]) as first:
            size = min(first.size)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{files[0]} cannot be read as an image: {error}") from error
    real = _read(files, folder, size, None)
    return real, size, 1 if real.ndim == 3 else real.shape[3]


def _read(files: list[Path], root: Path, size: int, channels: int | None) -> UInt8Array:
    from ensgan.data.decode import decode_files
    from ensgan.data.picture import Job, Preparation

    jobs = [Job(file) for file in files]
    return decode_files(jobs, Preparation(size, channels), root=root)[0]


def _extractor(name: str, weights: Path | None, real: UInt8Array) -> Extractor:
    import numpy as np

    from ensgan.embedding import make_extractor
    from ensgan.types import Dataset, Samples

    if name == "medical":
        raise InputError(
            "the extractor 'medical' is trained on labelled images, which a pool folder does not "
            "have: embed with a sweep, or choose another extractor"
        )
    samples = Samples(real, np.zeros(len(real), np.int64))
    dataset = Dataset("real", samples, samples, samples, ("image",))
    return make_extractor(name, weights=weights, dataset=dataset)
