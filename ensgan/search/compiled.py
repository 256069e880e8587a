"""Kernels compiled by numba; imported only through :mod:`ensgan.search.kernels`."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

# A word of eight 0/1 bytes times this constant has the eight bits in its top byte.
_GATHER = np.uint64(0x0102040810204080)
_TOP_BYTE, _HALF_BYTE = np.uint64(56), np.uint64(4)
_FOUR_BITS = np.uint64(15)
_BLOCK = 512  # subsets whose codes and running sums stay in the nearest caches


@intrinsic  # type: ignore[untyped-decorator]
def _bits(typing_context: Any, word: Any) -> Any:
    """The processor's population count of a 64-bit word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@numba.njit(cache=True, error_model="numpy")
def _pair_sums(places, count, pairs, sums):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Add to ``sums`` the pair sums of ``count`` subsets, four groups of four at a time.

    ``places`` holds 16·h + the four bits of group h. Four rows of the table share each place that
    is read: on common processors loads are what limits this loop.
    """
    halves = places.shape[1]
    for first in range(0, halves, 4):
        for row in range(count):
            i0, i1 = np.uintp(places[row, first]), np.uintp(places[row, first + 1])
            i2, i3 = np.uintp(places[row, first + 2]), np.uintp(places[row, first + 3])
            p = pairs[first, i0 & _FOUR_BITS]
            q = pairs[first + 1, i1 & _FOUR_BITS]
            r = pairs[first + 2, i2 & _FOUR_BITS]
            s = pairs[first + 3, i3 & _FOUR_BITS]
            p_sum = (p[i0] + p[i1]) + (p[i2] + p[i3])
            q_sum = (q[i1] + q[i2]) + q[i3]
            r_sum = r[i2] + r[i3]
            s_sum = s[i3]
            for second in range(first + 4, halves):
                place = np.uintp(places[row, second])
                p_sum += p[place]
                q_sum += q[place]
                r_sum += r[place]
                s_sum += s[place]
            sums[row] += (p_sum + q_sum) + (r_sum + s_sum)


@numba.njit(cache=True, error_model="numpy")
def _covered(codes, row, unions):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """How many points the members of subset ``row`` reach together."""
    groups, width = codes.shape[1], unions.shape[2]
    covered = np.uint64(0)
    for word in range(0, width, 8):  # one cache line; the table's width is a multiple of eight
        a, b, c, d = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
        e, f, g, h = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
        for group in range(groups):
            part = unions[group, np.uintp(codes[row, group]), word : word + 8]
            a |= part[0]
            b |= part[1]
            c |= part[2]
            d |= part[3]
            e |= part[4]
            f |= part[5]
            g |= part[6]
            h |= part[7]
        covered += _bits(a) + _bits(b) + _bits(c) + _bits(d)
        covered += _bits(e) + _bits(f) + _bits(g) + _bits(h)
    return np.int64(covered)


@numba.njit(cache=True, error_model="numpy")
def batch(flags, unions, pairs, linear, shares, points):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Objectives of dense subsets: eight members an OR, four by four members a pair sum.

    Args:
        flags: uint64 [B, G], byte b of word g is 1 when member 8g+b is in, else 0.
        unions: uint64 [G, 256, W], OR of every combination of a group of eight; W a multiple of 8.
        pairs: float64 [H, 16, 16·H], pair sums between (for a = b: within) groups of four;
            H a multiple of 4.
        linear, shares: float64 [G, 256], sums over every combination of a group of eight.
        points: N.
    """
    count, groups = flags.shape
    halves = pairs.shape[0]
    intra, inter = np.empty(count), np.empty(count)
    density, coverage = np.empty(count), np.empty(count)
    codes = np.empty((_BLOCK, groups), np.uint8)
    places = np.empty((_BLOCK, halves), np.uint16)
    for half in range(2 * groups, halves):
        places[:, half] = 16 * half
    sums = np.empty(_BLOCK)
    for start in range(0, count, _BLOCK):
        rows = min(count - start, _BLOCK)
        for row in range(rows):
            weighted, total, size = 0.0, 0.0, np.uint64(0)
            for group in range(groups):
                flag = flags[start + row, group]
                code = (flag * _GATHER) >> _TOP_BYTE
                codes[row, group] = code
                places[row, 2 * group] = 32 * group + (code & _FOUR_BITS)
                places[row, 2 * group + 1] = 32 * group + 16 + (code >> _HALF_BYTE)
                weighted += linear[group, code]
                total += shares[group, code]
                size += _bits(flag)
            density[start + row] = weighted / total if total > 0 else 0.0
            inter[start + row] = np.int64(size)
        sums[:] = 0.0
        _pair_sums(places, rows, pairs, sums)
        for row in range(rows):
            d = density[start + row]
            c = _covered(codes, row, unions) / points
            coverage[start + row] = c
            intra[start + row] = 2.0 * d * c / (d + c) if d + c > 0 else 0.0
            size_of = inter[start + row]
            count_of_pairs = 0.5 * size_of * (size_of - 1.0)
            inter[start + row] = sums[row] / count_of_pairs if count_of_pairs > 0 else np.nan
    return intra, inter, density, coverage


@numba.njit(cache=True, error_model="numpy")
def _leave_one_out(words, inside):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Row 0: union of ``inside``; row i+1: union without member i."""
    count, width = len(inside), words.shape[1]
    base = np.zeros((count + 1, width), np.uint64)
    for row in range(count):
        for word in range(width):
            base[row + 1, word] = base[0, word]
            base[0, word] |= words[inside[row], word]
    suffix = np.zeros(width, np.uint64)
    for row in range(count - 1, -1, -1):
        for word in range(width):
            base[row + 1, word] |= suffix[word]
            suffix[word] |= words[inside[row], word]
    return base


@numba.njit(cache=True, error_model="numpy")
def neighbours(words, inside, places, outside, pair, linear, shares, points):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Objectives of every addition, removal and swap, arrays [len(places)+1, len(outside)+1].

    Args:
        words: uint64 [M, W], the members' masks.
        inside, outside: int64, members that are in and that may come in.
        places: int64, which of ``inside`` may leave.
        pair: float64 [M, M] with a zero diagonal.
        linear, shares: float64 [M].
        points: N.
    """
    rows, columns, width = len(places) + 1, len(outside) + 1, words.shape[1]
    base = _leave_one_out(words, inside)
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
        dropped, start = -1, 0
        if row > 0:
            start = places[row - 1] + 1
            dropped = inside[start - 1]
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
                    covered += _bits(base[start, word] | words[added, word])
                sum_linear += linear[added]
                sum_shares += shares[added]
                sum_pairs += to_inside[column]
                if row > 0:
                    sum_pairs -= pair[dropped, added]
                members += 1.0
            else:
                for word in range(width):
                    covered += _bits(base[start, word])
            d = sum_linear / sum_shares if sum_shares > 0 else 0.0
            c = covered / points
            density[row, column] = d
            coverage[row, column] = c
            intra[row, column] = 2.0 * d * c / (d + c) if d + c > 0 else 0.0
            count = 0.5 * members * (members - 1.0)
            inter[row, column] = sum_pairs / count if count > 0 else np.nan
    return intra, inter, density, coverage
