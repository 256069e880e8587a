"""Subsets and points as bits: masks of covered points, 64 to a word, and counts of subsets."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ensgan.types import BoolArray

UInt64Array: TypeAlias = npt.NDArray[np.uint64]

BLOCK_BYTES = 1 << 22
"""Working set of one block of subsets: larger ones leave the processor's caches."""
_EXACT_DISTINCT = 1 << 16


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
        covered[begin + order] = np.bitwise_count(union).sum(axis=1)
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


class DistinctCounter:
    """How many different subsets were seen: exact to 65,536, estimated to about 0.4 % above.

    Every subset has a 64-bit hash (the XOR of one random word per member); only the smallest
    65,536 hashes are kept. Source: k minimum values, Bar-Yossef et al. 2002.
    """

    def __init__(self, members: int) -> None:
        random = np.random.default_rng(0x5EED)
        self.member_hash: UInt64Array = random.integers(0, 1 << 64, members, dtype=np.uint64)
        self._kept: UInt64Array = np.zeros(0, np.uint64)
        self._new: list[UInt64Array] = []
        self._waiting = 0
        self._threshold = np.uint64(0xFFFFFFFFFFFFFFFF)

    def add(self, hashes: UInt64Array) -> None:
        """Count the subsets with these hashes."""
        self._new.append(hashes[hashes <= self._threshold])
        self._waiting += len(self._new[-1])
        if self._waiting > 2 * _EXACT_DISTINCT:
            self._compact()

    def of(self, subsets: BoolArray) -> UInt64Array:
        """Hashes of the rows of a bool [B,M] matrix."""
        words = np.where(subsets, self.member_hash, np.uint64(0))
        return np.asarray(np.bitwise_xor.reduce(words, axis=1))

    def total(self) -> int:
        """The number of different subsets so far."""
        self._compact()
        if len(self._kept) < _EXACT_DISTINCT:
            return len(self._kept)
        return round((_EXACT_DISTINCT - 1) / (float(self._kept[-1]) / 2.0**64))

    def _compact(self) -> None:
        # Sorted by hand: np.unique of numpy 2.4 is ten times slower here.
        hashes = np.sort(np.concatenate((self._kept, *self._new)))
        different = np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]
        self._kept = hashes[different][:_EXACT_DISTINCT]
        self._new, self._waiting = [], 0
        if len(self._kept) == _EXACT_DISTINCT:
            self._threshold = self._kept[-1]
