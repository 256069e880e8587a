"""The 2-D sets of MedMNIST v2 by name.

Only what must be known without importing the medmnist package (which takes seconds); labels,
licences, addresses and checksums are read from the package when a set is loaded.
"""

from __future__ import annotations

NAMES = (
    "bloodmnist",
    "breastmnist",
    "chestmnist",
    "dermamnist",
    "octmnist",
    "organamnist",
    "organcmnist",
    "organsmnist",
    "pathmnist",
    "pneumoniamnist",
    "retinamnist",
    "tissuemnist",
)

SIZES = (28, 64, 128, 224)
"""Sides in pixels at which every set is published."""


def file_name(name: str, size: int) -> str:
    """The official file name of a set at one of :data:`SIZES`."""
    return f"{name}.npz" if size == 28 else f"{name}_{size}.npz"


def parse_file_name(text: str) -> tuple[str, int] | None:
    """The set and size an official file name stands for, or None."""
    for name in NAMES:
        for size in SIZES:
            if text == file_name(name, size):
                return name, size
    return None
