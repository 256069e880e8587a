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

    The masks of all members of all subsets are gathered one after the other, so that the cost is
    that of the members that are in, not of the pool: good ensembles are small.

    Args:
        words: uint64 [M, W].
        subsets: bool [B, M].
    """
    covered = np.zeros(len(subsets), np.int64)
    rows, members = np.nonzero(subsets)
    starts = np.searchsorted(rows, np.arange(len(subsets) + 1))
    most = max(1, BLOCK_BYTES // (8 * words.shape[1]))
    begin = 0
    while begin < len(subsets):
        # As many whole subsets as fit into a block, at least one.
        end = max(begin + 1, int(np.searchsorted(starts, starts[begin] + most, side="right")) - 1)
        first, last = starts[begin], starts[end]
        # reduceat gives an empty segment the row it begins with: empty subsets are left out.
        filled = begin + np.flatnonzero(np.diff(starts[begin : end + 1]))
        if len(filled):
            gathered = words[members[first:last]]
            union = np.bitwise_or.reduceat(gathered, starts[filled] - first, axis=0)
            covered[filled] = popcount(union).sum(axis=1)
        begin = end
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
