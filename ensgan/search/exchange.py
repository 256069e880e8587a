"""Objectives of all additions, removals and swaps of one subset, in plain numpy.

The compiled kernel of the same name takes the same arguments.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ensgan.search.kernels import FourArrays
from ensgan.search.masks import BLOCK_BYTES, UInt64Array, leave_one_out, popcount
from ensgan.types import Float64Array, Int64Array, harmonic_mean


def neighbours(
    words: UInt64Array,
    inside: Int64Array,
    places: Int64Array,
    outside: Int64Array,
    pair: Float64Array,
    linear: Float64Array,
    shares: Float64Array,
    points: int,
) -> FourArrays:
    """Intra-d, Inter-d, density and coverage, each [len(places)+1, len(outside)+1].

    Args:
        words: uint64 [M, W], the members' masks.
        inside, outside: members that are in and that may come in.
        places: which of ``inside`` may leave.
        pair: float64 [M, M] with a zero diagonal.
        linear, shares: float64 [M].
        points: N.
    """
    total = _exchanged(shares, inside, places, outside)
    if len(inside) == 1:
        total[1:, 0] = 1.0  # the empty subset: density 0
    density: Float64Array = _exchanged(linear, inside, places, outside) / total
    coverage: Float64Array = _covered(words, inside, places, outside, points) / points
    inter = _overlap(pair, inside, places, outside)
    return harmonic_mean(density, coverage), inter, density, coverage


def _covered(
    words: UInt64Array, inside: Int64Array, places: Int64Array, outside: Int64Array, points: int
) -> npt.NDArray[np.int64]:
    """Points covered, [len(places)+1, len(outside)+1]."""
    base = leave_one_out(words[inside])[np.concatenate(([0], places + 1))]
    rows, columns = len(base), len(outside) + 1
    covered = np.empty((rows, columns), np.int64)
    covered[:, 0] = popcount(base).sum(axis=1)
    incoming = np.ascontiguousarray(words.T[:, outside])
    block = max(1, BLOCK_BYTES // (8 * max(1, len(outside)) * base.shape[1]))
    for start in range(0, rows, block):
        union = base[start : start + block].T[:, :, None] | incoming[:, None, :]
        covered[start : start + block, 1:] = np.add.reduce(
            popcount(union), axis=0, dtype=np.uint16 if points < 65536 else np.int64
        )
    return covered


def _overlap(
    pair: Float64Array, inside: Int64Array, places: Int64Array, outside: Int64Array
) -> Float64Array:
    """Inter-d of the neighbourhood; sums of pairs change by one row, one column, one entry."""
    leaving = inside[places]
    to_inside = pair[inside].sum(axis=0)  # [M]: each member's sum to the subset
    whole = 0.5 * to_inside[inside].sum()
    left = np.concatenate(([whole], whole - to_inside[leaving]))
    overlap = np.empty((len(places) + 1, len(outside) + 1))
    overlap[:, 0] = left
    np.add(left[:, None], to_inside[outside], out=overlap[:, 1:])
    overlap[1:, 1:] -= pair[leaving].take(outside, axis=1)
    smaller, same, larger = (
        2.0 / (size * (size - 1)) if size > 1 else np.nan
        for size in range(len(inside) - 1, len(inside) + 2)
    )
    overlap[0, 0] *= same
    overlap[0, 1:] *= larger
    overlap[1:, 0] *= smaller
    overlap[1:, 1:] *= same
    return overlap


def _exchanged(
    values: Float64Array, inside: Int64Array, places: Int64Array, outside: Int64Array
) -> Float64Array:
    """Sum over the subset after dropping row i and taking in column j."""
    lost = np.concatenate(([0.0], values[inside[places]]))
    gained = np.concatenate(([0.0], values[outside]))
    total: Float64Array = (values[inside].sum() - lost)[:, None] + gained
    return total
