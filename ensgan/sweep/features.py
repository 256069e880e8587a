"""Features of images in files of a sweep's folder: made once, and again when they are damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ensgan import embedding, metrics
from ensgan.errors import DataError
from ensgan.files import atomic_path, map_array, read_text, sha256_file, write_bytes
from ensgan.types import Float32Array, UInt8Array


def write_features(path: Path, images: UInt8Array, extractor: embedding.Extractor) -> Float32Array:
    """Embed images and keep their features in an ``.npy`` file: float32 [n,dim]."""
    features = embedding.embed(images, extractor).features
    with atomic_path(path) as temporary:
        np.save(temporary, features)
    return features


def keep_features(
    path: Path, images: Callable[[], UInt8Array], extractor: Callable[[], embedding.Extractor]
) -> None:
    """Features under a name that is the key of what they are of: found whole, or made (again).

    A file beside them holds their SHA-256; where an early version wrote none, they must be
    readable.
    """
    mark = path.with_suffix(".sha256")
    try:
        if not mark.exists():
            map_array(path, larger=True)
            return
        if path.exists() and read_text(mark).strip() == sha256_file(path):
            return
    except DataError:
        pass
    write_features(path, images(), extractor())
    write_bytes(mark, f"{sha256_file(path)}\n".encode())


def real_reference(features: Path, k: int, backend: str) -> metrics.RealReference:
    """The real features with their radii, which lie beside them once anybody has asked."""
    real = np.array(map_array(features))
    radii = features.with_name(f"{features.stem}-radii-{k}.npz")
    return metrics.prepare(real, k, backend=backend, kept=radii)
