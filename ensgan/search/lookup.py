"""Tables that dense batches read: unions and sums of every combination of a few members."""

from __future__ import annotations

import numpy as np

from ensgan.search.masks import UInt64Array
from ensgan.types import Float64Array


def unions_of_eight(words: UInt64Array) -> UInt64Array:
    """OR of every combination of eight members, uint64 [ceil(M/8), 256, words]."""
    table = np.zeros(((len(words) + 7) // 8, 256, words.shape[1]), np.uint64)
    for member, mask in enumerate(words):
        group, bit = divmod(member, 8)
        size = 1 << bit
        table[group, size : 2 * size] = table[group, :size] | mask
    return table


def sums_of_eight(values: Float64Array) -> Float64Array:
    """Sum over every combination of eight members, float64 [ceil(M/8), 256]."""
    member, code = np.arange(len(values)), np.arange(256)
    holds = (code[:, None] >> member % 8 & 1).astype(np.float64)  # [256, M]
    group = np.eye((len(values) + 7) // 8)[member // 8]  # [M, G]
    sums: Float64Array = np.ascontiguousarray((holds @ (group * values[:, None])).T)
    return sums


def pair_sums(pair: Float64Array) -> Float64Array:
    """Pair sums between and within combinations of groups of four, float64 [H, 16, 16·H].

    H is a multiple of 4: the compiled loop takes four at a time. The table takes 128·M² bytes:
    1.6 MB for 110 members, 128 MB for 1,000.

    Args:
        pair: float64 [M,M], symmetric with a zero diagonal.
    """
    member, code = np.arange(len(pair)), np.arange(16)
    groups = (len(pair) + 3) // 4
    halves = (groups + 3) // 4 * 4
    table = np.zeros((halves, 16, halves, 16))
    holds = (code[:, None] >> member % 4 & 1).astype(np.float64)
    for a in range(groups):
        own = slice(4 * a, 4 * a + 4)
        sums = holds[:, own] @ pair[own]  # [16, M]
        for b in range(a, groups):
            other = slice(4 * b, 4 * b + 4)
            between = sums[:, other] @ holds[:, other].T
            table[a, :, b, :] = np.diag(np.diag(between) / 2) if a == b else between
    return table.reshape(halves, 16, 16 * halves)
