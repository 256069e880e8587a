"""Images to embeddings, in bounded memory, once for the same content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ensgan.caches import read_cached, write_cached
from ensgan.embedding.extractor import Extractor
from ensgan.errors import DataError, InputError
from ensgan.files import content_key, sha256_arrays
from ensgan.types import Embeddings, UInt8Array


def embed(
    images: UInt8Array,
    extractor: Extractor,
    *,
    batch: int = 256,
    cache: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Embeddings:
    """Embed images, or read the result of having done so.

    Args:
        images: uint8 [n,H,W] or [n,H,W,C]; may be memory-mapped.
        extractor: the network.
        batch: images handed over at once; bounds memory, never changes the result.
        cache: folder of earlier results, named by the content of images and extractor; kept
            within ``ENSGAN_CACHE_GB``.
        on_progress: called with (done, n) after every batch.

    Returns:
        Embeddings of n rows.

    Raises:
        InputError: ``batch`` is below 1, or the images do not suit the extractor.
        DataError: the network produced non-finite features.
    """
    if batch < 1:
        raise InputError(f"batch must be at least 1, not {batch}")
    path = None
    if cache is not None:
        path = cache / f"{content_key(sha256_arrays(images), extractor.key)}.npz"
        cached = read_cached(path, ("features",))
        if cached is not None and cached["features"].shape == (len(images), extractor.dim):
            return Embeddings(cached["features"], extractor.key)
    features = np.empty((len(images), extractor.dim), np.float32)
    for start in range(0, len(images), batch):
        part = features[start : start + batch]
        part[:] = extractor(images[start : start + batch])
        if on_progress is not None:
            on_progress(start + len(part), len(images))
    wrong = int((~np.isfinite(features).all(axis=1)).sum())
    if wrong:
        raise DataError(
            f"the extractor '{extractor.name}' gave non-finite features for {wrong} of "
            f"{len(images)} images: its weights are damaged or not meant for it"
        )
    if path is not None:
        write_cached(path, features=features, extractor=np.array(extractor.key))
    return Embeddings(features, extractor.key)
