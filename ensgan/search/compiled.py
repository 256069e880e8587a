"""Kernels compiled by numba; imported only through :mod:`ensgan.search.kernels`."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

# A word of eight 0/1 bytes times this constant has the eight bits in its top byte.
_GATHER = np.uint64(0x0102040810204080)
_TOP_BYTE = np.uint64(56)
_FOUR = ir.VectorType(ir.DoubleType(), 4)
_BLOCK = 512  # subsets whose codes and running sums stay in the nearest caches


@intrinsic  # type: ignore[untyped-decorator]
def _bits(typing_context: Any, word: Any) -> Any:
    """The processor's population count of a 64-bit word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _block_pairs(typing_context: Any, rows: Any, codes: Any, flags: Any, groups: Any) -> Any:
    """Pair sum of the members of a block of sixteen with themselves and all later members.

    Arguments are addresses: of table rows float64 [groups, 256, 16], of the codes of as many
    groups of eight (uint8), and of the block's sixteen flags (uint8). The sixteen sums live in
    four vector registers; plain numba would keep them in memory.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, codes, flags, groups = arguments
        word, zero = rows.type, ir.Constant(_FOUR, [0.0] * 4)
        row_vectors = builder.inttoptr(rows, _FOUR.as_pointer())
        code_bytes = builder.inttoptr(codes, ir.IntType(8).as_pointer())
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(4)]
        with cgutils.for_range(builder, groups) as loop:
            code = builder.load(builder.gep(code_bytes, [loop.index]))
            row = builder.add(builder.shl(loop.index, word(8)), builder.zext(code, word))
            for part, total in enumerate(sums):
                place = builder.add(builder.shl(row, word(2)), word(part))
                values = builder.load(builder.gep(row_vectors, [place]), align=8)
                builder.store(builder.fadd(builder.load(total), values), total)
        return _masked_sum(builder, [builder.load(total) for total in sums], flags)

    place = types.intp
    return types.float64(place, place, place, place), generate


def _masked_sum(builder: Any, sums: list[Any], flags: Any) -> Any:
    """Code for the sum of those of sixteen numbers whose flag (uint8 at an address) is 1."""
    four_bytes = ir.VectorType(ir.IntType(8), 4)
    flag_vectors = builder.inttoptr(flags, four_bytes.as_pointer())
    total = None
    for part, values in enumerate(sums):
        place = builder.gep(flag_vectors, [ir.Constant(flags.type, part)])
        chosen = builder.uitofp(builder.load(place, align=1), _FOUR)
        kept = builder.fmul(values, chosen)
        total = kept if total is None else builder.fadd(total, kept)
    lanes = [builder.extract_element(total, ir.Constant(ir.IntType(32), k)) for k in range(4)]
    return builder.fadd(builder.fadd(lanes[0], lanes[1]), builder.fadd(lanes[2], lanes[3]))


@numba.njit(cache=True, error_model="numpy")
def _pair_sums(flags, start, codes, count, pairs, sums):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Add to ``sums`` the pair sums of ``count`` subsets, a block of sixteen members at a time."""
    groups = codes.shape[1]
    # Signed addresses: mixed with a signed number, an unsigned one becomes a float.
    table, code, flag = (
        np.intp(pairs.ctypes.data),
        np.intp(codes.ctypes.data),
        np.intp(flags.ctypes.data),
    )
    for group in range(0, groups, 2):
        for row in range(count):
            sums[row] += _block_pairs(
                table,
                code + row * groups + group,
                flag + 8 * ((start + row) * groups + group),
                groups - group,
            )
        table += (groups - group) * pairs.strides[0]


@numba.njit(cache=True, error_model="numpy")
def _covered(codes, row, unions):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """How many points the members of subset ``row`` reach together."""
    groups, width = unions.shape[0], unions.shape[2]
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
    """Objectives of dense subsets: eight members an OR, eight by sixteen a pair sum.

    Args:
        flags: uint64 [B, G], byte b of word g is 1 when member 8g+b is in, else 0; G is even.
        unions: uint64 [ceil(M/8), 256, W], OR of every combination of a group of eight; W a
            multiple of 8.
        pairs: float64 [.., 256, 16], see :func:`ensgan.search.lookup.pair_sums`.
        linear, shares: float64 [ceil(M/8), 256], sums over every combination of a group of eight.
        points: N.
    """
    count, groups = flags.shape
    intra, inter = np.empty(count), np.empty(count)
    density, coverage = np.empty(count), np.empty(count)
    codes = np.zeros((_BLOCK, groups), np.uint8)
    sums = np.empty(_BLOCK)
    for start in range(0, count, _BLOCK):
        rows = min(count - start, _BLOCK)
        for row in range(rows):
            weighted, total, size = 0.0, 0.0, np.uint64(0)
            for group in range(len(unions)):
                flag = flags[start + row, group]
                code = (flag * _GATHER) >> _TOP_BYTE
                codes[row, group] = code
                weighted += linear[group, code]
                total += shares[group, code]
                size += _bits(flag)
            density[start + row] = weighted / total if total > 0 else 0.0
            inter[start + row] = np.int64(size)
        sums[:] = 0.0
        _pair_sums(flags, start, codes, rows, pairs, sums)
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
def _row_sums(inside, places, pair, linear, shares):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """What is left without the member of each row: linear, shares, pair sum, size; [rows, 4]."""
    sums = np.zeros((len(places) + 1, 4))
    for member in inside:
        sums[0, 0] += linear[member]
        sums[0, 1] += shares[member]
        for other in inside:
            sums[0, 2] += 0.5 * pair[member, other]
    sums[0, 3] = len(inside)
    for row in range(1, len(sums)):
        dropped = inside[places[row - 1]]
        sums[row, 0] = sums[0, 0] - linear[dropped]
        sums[row, 1] = sums[0, 1] - shares[dropped]
        sums[row, 2] = sums[0, 2]
        for other in inside:
            sums[row, 2] -= pair[dropped, other]
        sums[row, 3] = sums[0, 3] - 1.0
    return sums


@numba.njit(cache=True, error_model="numpy")
def _sums_to(inside, outside, pair):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Pair sum of every incoming member with the subset; 0 for the first column, [columns]."""
    sums = np.zeros(len(outside) + 1)
    for column in range(1, len(sums)):
        for member in inside:
            sums[column] += pair[member, outside[column - 1]]
    return sums


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
    shape = (len(places) + 1, len(outside) + 1)
    intra, inter = np.empty(shape), np.empty(shape)
    density, coverage = np.empty(shape), np.empty(shape)
    base, width = _leave_one_out(words, inside), words.shape[1]
    left = _row_sums(inside, places, pair, linear, shares)
    to_inside = _sums_to(inside, outside, pair)
    for row in range(shape[0]):
        start = places[row - 1] + 1 if row > 0 else 0
        for column in range(shape[1]):
            covered = np.uint64(0)
            weighted, total, pairs, size = left[row, 0], left[row, 1], left[row, 2], left[row, 3]
            if column > 0:
                added = outside[column - 1]
                for word in range(width):
                    covered += _bits(base[start, word] | words[added, word])
                weighted += linear[added]
                total += shares[added]
                pairs += to_inside[column]
                if row > 0:
                    pairs -= pair[inside[start - 1], added]
                size += 1.0
            else:
                for word in range(width):
                    covered += _bits(base[start, word])
            d = weighted / total if total > 0 else 0.0
            c = covered / points
            density[row, column], coverage[row, column] = d, c
            intra[row, column] = 2.0 * d * c / (d + c) if d + c > 0 else 0.0
            count = 0.5 * size * (size - 1.0)
            inter[row, column] = pairs / count if count > 0 else np.nan
    return intra, inter, density, coverage
