"""What ``ensgan score`` reads: features, or images that are embedded first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ensgan.cli.output import progress
from ensgan.cli.pool_images import RealSource, embed_pool, read_images
from ensgan.errors import InputError

if TYPE_CHECKING:
    from ensgan.metrics.files import PoolFeatures


@dataclass(frozen=True)
class PoolSource:
    """Where a pool lies: features, or images with what embeds them.

    ``held_out``: real images never trained on, or their features.
    """

    path: Path
    real: RealSource
    extractor: str
    weights: Path | None
    held_out: Path | None


def read_pool(source: PoolSource, scratch: Path, memory_bytes: int) -> PoolFeatures:
    """The features of a pool; what is larger than the memory is mapped, unpacked to ``scratch``.

    Raises:
        DataError: no pool, or one that cannot be read.
        InputError: real images given for a pool of features.
    """
    from ensgan.data.pool import is_image_pool

    return _embedded(source) if is_image_pool(source.path) else _read(source, scratch, memory_bytes)


def _embedded(source: PoolSource) -> PoolFeatures:
    """Features of a pool of images; images in its ``held_out/`` count when nothing else is said."""
    from ensgan.data.pool import read_others

    images = read_images(source.path, source.real)
    held_out = source.held_out
    if held_out is None and (source.path / "held_out").is_dir():
        held_out = source.path / "held_out"
    unseen = None if held_out is None else read_others(held_out, images.real.shape)
    with progress("embedding", "images") as report:
        return embed_pool(images, source.extractor, source.weights, report, unseen)


def _read(source: PoolSource, scratch: Path, memory_bytes: int) -> PoolFeatures:
    from ensgan.metrics.files import load_array, load_pool
    from ensgan.metrics.extend import feature_contents

    if source.real.data is not None:
        raise InputError(f"--data gives real images, but {source.path} holds features: drop it")
    pool = load_pool(source.path, scratch=scratch, memory_bytes=memory_bytes)
    return replace(
        pool,
        contents=feature_contents(pool.real, pool.fakes, pool.names),
        held_out=None if source.held_out is None else load_array(source.held_out),
    )
