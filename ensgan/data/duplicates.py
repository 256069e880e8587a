"""Images that occur twice, exactly or nearly, within a split and across splits (leakage)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ensgan.types import Float32Array, Int64Array, UInt8Array

NEAR = 0.995
"""Correlation of two thumbnails from which on they count as near duplicates."""

_SIDE = 16
_BLOCK = 2048
_DIRECTIONS = 30  # of the first comparison


@dataclass(frozen=True)
class Pairs:
    """Pairs of images (first < second), int64 [p] each."""

    first: Int64Array
    second: Int64Array

    def __len__(self) -> int:
        return len(self.first)


def exact_pairs(images: UInt8Array) -> Pairs:
    """Each image that repeats an earlier one byte for byte, paired with the first of its kind."""
    seen: dict[bytes, int] = {}
    first, second = [], []
    for index, image in enumerate(images):
        digest = hashlib.sha256(np.ascontiguousarray(image).data).digest()
        original = seen.setdefault(digest, index)
        if original != index:
            first.append(original)
            second.append(index)
    return Pairs(np.array(first, np.int64), np.array(second, np.int64))


def thumbnails(images: UInt8Array) -> Float32Array:
    """Grey 16×16 thumbnails with mean 0 and length 1: float32 [n,256]; flat images give zeros.

    Their inner product is the correlation, which neither brightness nor contrast changes.
    """
    grey = images if images.ndim == 3 else images.mean(axis=3)
    size = grey.shape[1]
    edges = np.linspace(0, size, _SIDE + 1)
    weights = np.array(
        [
            np.clip(np.minimum(np.arange(size) + 1, high) - np.maximum(np.arange(size), low), 0, 1)
            for low, high in pairwise(edges)
        ],
        np.float32,
    ) * np.float32(_SIDE / size)
    vectors = np.empty((len(grey), _SIDE * _SIDE), np.float32)
    for start in range(0, len(grey), _BLOCK):
        part = grey[start : start + _BLOCK].astype(np.float32)
        vectors[start : start + _BLOCK] = (weights @ part @ weights.T).reshape(len(part), -1)
    vectors -= vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    flat = length < 1e-3
    return np.asarray(np.where(flat, 0, vectors / np.where(flat, 1, length)), np.float32)


def near_pairs(vectors: Float32Array, threshold: float = NEAR, limit: int = 100_000) -> Pairs:
    """All pairs of unit vectors [n,D] whose inner product is at least ``threshold``.

    Exact: such a pair is no further apart than √(2−2·threshold), and no further in any
    projection. So the vectors are sorted along their widest direction, blocks that are too far
    apart there are skipped, and the others are first compared in the few widest directions.

    Args:
        vectors: float32 [n,D] of length 1 (zero vectors match nothing).
        threshold: in (0, 1].
        limit: stop after this many pairs.
    """
    coordinates = _widest_coordinates(vectors)
    order = np.argsort(coordinates[:, 0], kind="stable")
    rows, coordinates = vectors[order], coordinates[order]
    square = np.float32(2 - 2 * threshold) + np.float32(1e-4)  # and the rounding of float32
    reach = np.searchsorted(coordinates[:, 0], coordinates[:, 0] + np.sqrt(square))
    # One product gives |a|² + |b|² − 2ab of all pairs of a block.
    length = np.square(coordinates).sum(axis=1, keepdims=True)
    one = np.ones_like(length)
    left, right = np.hstack([-2 * coordinates, length, one]), np.hstack([coordinates, one, length])
    blocks: list[npt.NDArray[np.int64]] = []
    count = 0
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        for other in range(start, int(reach[stop - 1]), _BLOCK):
            apart = left[start:stop] @ right[other : other + _BLOCK].T
            a, b = np.divmod(np.flatnonzero(apart <= square), apart.shape[1])
            a, b = a + start, b + other
            a, b = a[a < b], b[a < b]
            near = _inner(rows, a, b) >= threshold
            pairs = np.sort(order[np.stack([a[near], b[near]])], axis=0)
            blocks.append(pairs.astype(np.int64))
            count += pairs.shape[1]
            if count >= limit:
                break
        if count >= limit:
            break
    both = np.concatenate(blocks, axis=1) if blocks else np.zeros((2, 0), np.int64)
    both = both[:, np.lexsort((both[1], both[0]))][:, :limit]
    return Pairs(both[0], both[1])


def _widest_coordinates(vectors: Float32Array) -> Float32Array:
    """Coordinates along the directions in which the vectors vary most, widest first."""
    if not len(vectors):
        return np.zeros((0, 1), np.float32)
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ directions[:, : -_DIRECTIONS - 1 : -1], np.float32)


def _inner(rows: Float32Array, a: Int64Array, b: Int64Array) -> Float32Array:
    """Inner products of the rows named by ``a`` and ``b``, in blocks."""
    parts = [
        np.einsum("ij,ij->i", rows[a[at : at + _BLOCK]], rows[b[at : at + _BLOCK]])
        for at in range(0, len(a), _BLOCK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
