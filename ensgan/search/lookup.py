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
    """Pair sums of sixteen members with every combination of eight, float64 [rows, 256, 16].

    Members come in B blocks of sixteen, the last filled up. Block b has 2·(B−b) rows: of its own
    two groups of eight, halved because every pair is met from both sides, and of all later
    groups. Summed over the groups of a subset and then over the block's members in it, they give
    all its pairs once. 128·M² bytes: 1.8 MB for 110 members, 130 MB for 1,000.

    Args:
        pair: float64 [M,M], symmetric with a zero diagonal.
    """
    blocks = (len(pair) + 15) // 16
    filled = np.zeros((16 * blocks, 16 * blocks))
    filled[: len(pair), : len(pair)] = pair
    holds = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(np.float64)  # [256, 8]
    rows = []
    for block in range(blocks):
        own = filled[16 * block : 16 * block + 16]
        for group in range(2 * block, 2 * blocks):
            part = own[:, 8 * group : 8 * group + 8]
            scale = 0.5 if group < 2 * block + 2 else 1.0
            rows.append(holds @ (scale * part.T))
    return np.array(rows)
