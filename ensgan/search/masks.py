"""Bit masks of covered points, 64 to a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

BoolArray: TypeAlias = npt.NDArray[np.bool_]
UInt64Array: TypeAlias = npt.NDArray[np.uint64]

BLOCK_BYTES = 1 << 22
"""Working set of one block of subsets: larger ones leave the processor's caches."""


def pack_words(masks: npt.NDArray[np.uint8]) -> UInt64Array:
    """Masks uint8 [M, ceil(N/8)] as uint64 [M, W], zero-padded to a multiple of eight words."""
    members, width = masks.shape
    padded = np.zeros((members, (width + 63) // 64 * 64), np.uint8)
    padded[:, :width] = masks
    return padded.view(np.uint64)


def covered_points(words: UInt64Array, subsets: BoolArray) -> npt.NDArray[np.int64]:
    """How many points the OR of each subset's masks covers, int64 [B].

    Members are taken in turn, the first of every subset, then the second: the cost is that of the
    members that are in, not of the pool, because good ensembles are small.

    Args:
        words: uint64 [M, W].
        subsets: bool [B, M].
    """
    covered = np.zeros(len(subsets), np.int64)
    step = max(1, BLOCK_BYTES // (16 * words.shape[1]))
    for begin in range(0, len(subsets), step):
        block = subsets[begin : begin + step]
        sizes = block.sum(axis=1)
        members = np.nonzero(block)[1]
        first = np.cumsum(sizes) - sizes
        # The largest first: those that still have a member are then one slice.
        order = np.argsort(-sizes, kind="stable")
        union = np.zeros((len(block), words.shape[1]), np.uint64)
        for turn in range(int(sizes.max(initial=0))):
            rows = order[: np.count_nonzero(sizes > turn)]
            union[: len(rows)] |= words[members[first[rows] + turn]]
        covered[begin + order] = popcount(union).sum(axis=1)
    return covered


def leave_one_out(words: UInt64Array) -> UInt64Array:
    """Row 0: OR of all rows; row i+1: OR of all but row i. Prefix and suffix unions, O(rows)."""
    rows = len(words)
    base = np.zeros((rows + 1, words.shape[1]), np.uint64)
    if rows == 0:
        return base
    prefix = np.bitwise_or.accumulate(words, axis=0)
    base[0] = prefix[-1]
    base[2:] = prefix[:-1]
    if rows > 1:
        base[1:-1] |= np.bitwise_or.accumulate(words[::-1], axis=0)[::-1][1:]
    return base


def _table_popcount(words: UInt64Array) -> npt.NDArray[np.uint8]:
    # numpy 1.26 has no bitwise_count: count sixteen bits at a time.
    counts = _SIXTEEN_BITS[np.ascontiguousarray(words).view(np.uint16).reshape(*words.shape, 4)]
    bits: npt.NDArray[np.uint8] = counts.sum(axis=-1, dtype=np.uint8)
    return bits


_SIXTEEN_BITS: npt.NDArray[np.uint8] = (
    np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8))
    .reshape(-1, 16)
    .sum(axis=1, dtype=np.uint8)
)
popcount: Callable[[UInt64Array], npt.NDArray[np.uint8]] = getattr(
    np, "bitwise_count", _table_popcount
)
"""Bits set in each word."""
