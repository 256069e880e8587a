"""Kernels compiled by numba; imported only through :mod:`ensgan.search.kernels`."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

_BLOCK = 256  # subsets whose running sums stay in the first-level cache


@intrinsic  # type: ignore[untyped-decorator]
def _bits(typing_context: Any, word: Any) -> Any:
    """The processor's population count of a 64-bit word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@numba.njit(cache=True, error_model="numpy")
def batch(codes, unions, pairs, linear, shares, points):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Objectives of dense subsets: eight members an OR, four by four members a pair sum.

    Args:
        codes: uint8 [B, G], bit b of byte g = member 8g+b is in.
        unions: uint64 [G, 256, W], OR of every combination of a group of eight.
        pairs: float64 [H, 16, H, 16], pair sums between (for a = b: within) groups of four.
        linear, shares: float64 [G, 256], sums over every combination of a group of eight.
        points: N.
    """
    count, groups = codes.shape
    width = unions.shape[2]
    halves = pairs.shape[0]
    intra, inter = np.empty(count), np.empty(count)
    density, coverage = np.empty(count), np.empty(count)
    union = np.empty(width, np.uint64)
    nibbles = np.zeros((_BLOCK, halves + 1), np.int64)
    sums = np.empty(_BLOCK)
    for start in range(0, count, _BLOCK):
        stop = min(count, start + _BLOCK)
        for row in range(start, stop):
            for group in range(groups):
                code = codes[row, group]
                nibbles[row - start, 2 * group] = code & 15
                if 2 * group + 1 < halves:
                    nibbles[row - start, 2 * group + 1] = code >> 4
        sums[:] = 0.0
        for first in range(halves):
            for row in range(stop - start):
                own = pairs[first, nibbles[row, first]]
                even, odd = 0.0, 0.0
                second = first
                while second + 1 < halves:
                    even += own[second, nibbles[row, second]]
                    odd += own[second + 1, nibbles[row, second + 1]]
                    second += 2
                if second < halves:
                    even += own[second, nibbles[row, second]]
                sums[row] += even + odd
        for row in range(start, stop):
            union[:] = 0
            weighted, total, size = 0.0, 0.0, np.uint64(0)
            for group in range(groups):
                code = codes[row, group]
                for word in range(width):
                    union[word] |= unions[group, code, word]
                weighted += linear[group, code]
                total += shares[group, code]
                size += _bits(np.uint64(code))
            covered = np.uint64(0)
            for word in range(width):
                covered += _bits(union[word])
            density[row] = weighted / total if total > 0 else 0.0
            coverage[row] = covered / points
            both = density[row] + coverage[row]
            intra[row] = 2.0 * density[row] * coverage[row] / both if both > 0 else 0.0
            inter[row] = sums[row - start] / (0.5 * size * (size - 1.0)) if size > 1 else np.nan
    return intra, inter, density, coverage


@numba.njit(cache=True, error_model="numpy")
def neighbours(base, words, inside, outside, pair, linear, shares, points):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Objectives of every addition, removal and swap, arrays [len(inside)+1, len(outside)+1].

    Args:
        base: uint64 [len(inside)+1, W], row 0 the union, row i+1 the union without member i.
        words: uint64 [M, W], the members' masks.
        inside, outside: int64, members that are in and that may come in.
        pair: float64 [M, M] with a zero diagonal.
        linear, shares: float64 [M].
        points: N.
    """
    rows, columns, width = len(inside) + 1, len(outside) + 1, base.shape[1]
    shape = (rows, columns)
    intra, inter = np.empty(shape), np.empty(shape)
    density, coverage = np.empty(shape), np.empty(shape)
    to_inside = np.zeros(columns)
    for column in range(1, columns):
        for member in inside:
            to_inside[column] += pair[member, outside[column - 1]]
    within, all_linear, all_shares = 0.0, 0.0, 0.0
    for member in inside:
        all_linear += linear[member]
        all_shares += shares[member]
        for other in inside:
            within += 0.5 * pair[member, other]
    for row in range(rows):
        weighted, total, pairs = all_linear, all_shares, within
        size = float(len(inside))
        dropped = -1
        if row > 0:
            dropped = inside[row - 1]
            size -= 1.0
            weighted -= linear[dropped]
            total -= shares[dropped]
            for other in inside:
                pairs -= pair[dropped, other]
        for column in range(columns):
            covered = np.uint64(0)
            sum_linear, sum_shares, sum_pairs, members = weighted, total, pairs, size
            if column > 0:
                added = outside[column - 1]
                for word in range(width):
                    covered += _bits(base[row, word] | words[added, word])
                sum_linear += linear[added]
                sum_shares += shares[added]
                sum_pairs += to_inside[column]
                if row > 0:
                    sum_pairs -= pair[dropped, added]
                members += 1.0
            else:
                for word in range(width):
                    covered += _bits(base[row, word])
            d = sum_linear / sum_shares if sum_shares > 0 else 0.0
            c = covered / points
            density[row, column] = d
            coverage[row, column] = c
            intra[row, column] = 2.0 * d * c / (d + c) if d + c > 0 else 0.0
            count = 0.5 * members * (members - 1.0)
            inter[row, column] = sum_pairs / count if count > 0 else np.nan
    return intra, inter, density, coverage
