"""Counting different subsets in bounded memory."""

from __future__ import annotations

import numpy as np

from ensgan.search.masks import BoolArray, UInt64Array

_EXACT_DISTINCT = 1 << 16


class DistinctCounter:
    """How many different subsets were seen: exact to 65,536, estimated to about 0.4 % above.

    Every subset has a 64-bit hash (the XOR of one random word per member); only the smallest
    65,536 hashes are kept. Source: k minimum values, Bar-Yossef et al. 2002.
    """

    def __init__(self, members: int) -> None:
        words = np.random.default_rng(0x5EED).integers(0, 1 << 64, members, dtype=np.uint64)
        self.member_hash: UInt64Array = words
        self._kept: UInt64Array = np.zeros(0, np.uint64)
        self._new: list[UInt64Array] = []
        self._waiting = 0
        self._threshold = np.uint64(0xFFFFFFFFFFFFFFFF)

    def add(self, hashes: UInt64Array) -> None:
        """Count the subsets with these hashes."""
        small = hashes[hashes <= self._threshold]
        self._new.append(small)
        self._waiting += len(small)
        if self._waiting > 2 * _EXACT_DISTINCT:
            self._compact()

    def of(self, subsets: BoolArray) -> UInt64Array:
        """Hashes of the rows of a bool [B,M] matrix."""
        hashes: UInt64Array = np.bitwise_xor.reduce(
            np.where(subsets, self.member_hash, np.uint64(0)), axis=1
        )
        return hashes

    def total(self) -> int:
        """The number of different subsets so far."""
        self._compact()
        if len(self._kept) < _EXACT_DISTINCT:
            return len(self._kept)
        return round((_EXACT_DISTINCT - 1) / (float(self._kept[-1]) / 2.0**64))

    def _compact(self) -> None:
        hashes = np.sort(np.concatenate((self._kept, *self._new)))
        different = np.ones(len(hashes), bool)
        different[1:] = hashes[1:] != hashes[:-1]
        self._kept = hashes[different][:_EXACT_DISTINCT]
        self._new, self._waiting = [], 0
        if len(self._kept) == _EXACT_DISTINCT:
            self._threshold = self._kept[-1]
