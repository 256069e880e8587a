"""How much disk a sweep takes, and whether it is there."""

from __future__ import annotations

import shutil
from pathlib import Path

from ensgan import zoo
from ensgan.errors import InputError
from ensgan.sweep.inputs import Resolved

FLOAT_BYTES = 4
FEATURE_BYTES = 2048 * FLOAT_BYTES
"""Upper bound: the longest feature vector of the extractors."""


def disk_bytes(resolved: Resolved) -> int:
    """Bytes of snapshots, resume checkpoints, generated images and their features.

    Every snapshot is there once, and twice more when selected: in the ensemble's folder and in the
    recorded run.
    """
    shape, classes = resolved.dataset.shape, resolved.dataset.num_classes
    pixels = shape.channels * shape.size**2
    # Images of generators from elsewhere: as samples, as a bank, in the artifact and the record.
    total = len(resolved.spec.members) * resolved.count * (4 * pixels + FEATURE_BYTES)
    for row, settings in zip(resolved.gans, resolved.settings, strict=True):
        generator, discriminator = zoo.count_parameters(row, shape, classes)
        snapshots = 3 * settings.snapshots * generator
        # Weights and Adam's two moments of both networks, and the averaged generator.
        checkpoint = 3 * (generator + discriminator) + generator
        images = settings.snapshots * resolved.count * (pixels + FEATURE_BYTES)
        total += FLOAT_BYTES * (snapshots + checkpoint) + images
    return total


def free_bytes(path: Path) -> int:
    """Free space where ``path`` is or would be made."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def check_disk(resolved: Resolved, folder: Path) -> None:
    """Refuse a sweep that would fill the disk; what it has already written is not counted.

    Raises:
        InputError: not enough space is free.
    """
    needed, free = disk_bytes(resolved) - written_bytes(folder), free_bytes(folder)
    if needed > free:
        raise InputError(
            f"sweep '{resolved.spec.name}' needs about {needed / 2**20:,.0f} MB more and {folder} "
            f"has {free / 2**20:,.0f} MB free: make room, or choose another --storage"
        )


def written_bytes(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
