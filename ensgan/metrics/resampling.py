"""Scores on random parts of the points and images, counted in the same pass as the whole ones."""

from __future__ import annotations

import zlib

import numpy as np

from ensgan.errors import InputError
from ensgan.types import Int64Array, UInt8Array
from ensgan.types.resamples import SHARE

_LARGEST_BYTES = 1 << 30
_GATHER_BYTES = 1 << 22  # flags of hits looked at together
_MOST_ROUNDS = 1_000_000
_LANES = 255  # flags that a byte can sum


def check_rounds(rounds: int, members: int, points: int, memory_bytes: int) -> None:
    """Refuse numbers of rounds that cannot be kept.

    Raises:
        InputError: negative, or results above a gigabyte or a quarter of the memory.
    """
    if not 0 <= rounds <= _MOST_ROUNDS:
        raise InputError(f"{rounds} resamples: use 0 for none, or 200; {_MOST_ROUNDS:,} at most")
    per_round = members * (4 * members + points // 8)
    most = min(_LARGEST_BYTES, memory_bytes // 4)
    if rounds * per_round > most:
        raise InputError(
            f"{rounds} resamples of {members} members would take "
            f"{rounds * per_round / 2**30:.2g} GB, and {most / 2**30:.2g} GB may be taken (a "
            "quarter of --memory, at most 1): use at "
            f"most {most // per_round}, or more memory"
        )


def kept_count(points: int) -> int:
    """Number of points that a round keeps, out of ``points``."""
    return max(1, int(SHARE * points))


def kept_points(name: str, points: int, rounds: int) -> UInt8Array:
    """Which points of the set ``name`` each round keeps: 0 or 1, [points, rounds].

    The rounds of a set depend on its name and size alone, so that all pairs agree on them, on any
    worker and in a pool that grows.
    """
    random = np.random.default_rng((zlib.crc32(name.encode()), points))
    flags = np.zeros((points, rounds), np.uint8)
    flags[: kept_count(points)] = 1
    return random.permuted(flags, axis=0)


class RoundCounts:
    """Hits of one set's points in another's balls, in every round.

    Args:
        balls, points: what :func:`kept_points` says of the two sets.
    """

    def __init__(self, balls: UInt8Array, points: UInt8Array) -> None:
        self._rounds = balls.shape[1]
        self._balls, self._points = (_padded(flags) for flags in (balls, points))
        self._bits = np.packbits(self._points, axis=1).view(np.uint64)
        self._found = np.zeros((len(balls), self._bits.shape[1]), np.uint64)
        self._hits = np.zeros(self._balls.shape[1], np.int64)

    def add(self, centre: Int64Array, point: Int64Array) -> None:
        """Take in (ball, point) pairs with the point inside."""
        order = np.argsort(centre, kind="stable")
        centre, point = centre[order], point[order]
        step = _GATHER_BYTES // self._balls.shape[1]
        for start in range(0, len(centre), step):
            part = slice(start, start + step)
            self._hits += _column_sums(self._balls[centre[part]] & self._points[point[part]])
            first = np.flatnonzero(np.diff(centre[part], prepend=-1))
            reached = np.bitwise_or.reduceat(self._bits[point[part]], first, axis=0)
            self._found[centre[part][first]] |= reached

    def reached(self) -> UInt8Array:
        """Balls kept that hold a point kept: 0 or 1, [balls, rounds]."""
        inside = np.unpackbits(self._found.view(np.uint8), axis=1)
        return (inside & self._balls)[:, : self._rounds]

    def totals(self) -> Int64Array:
        """Hits, and balls reached, of every round: int64 [2, rounds]."""
        reached = self.reached().sum(axis=0, dtype=np.int64)
        return np.stack((self._hits[: self._rounds], reached))


def _padded(flags: UInt8Array) -> UInt8Array:
    """With zero columns up to a multiple of 64, so that rows are whole words."""
    wide = np.zeros((len(flags), -(-flags.shape[1] // 64) * 64), np.uint8)
    wide[:, : flags.shape[1]] = flags
    return wide


def _column_sums(flags: UInt8Array) -> Int64Array:
    """Column sums of 0/1 bytes [n, 8·w]; eight columns are added as one word."""
    words = flags.view(np.uint64)
    starts = np.arange(0, len(words), _LANES)
    lanes = np.add.reduceat(words, starts, axis=0).view(np.uint8)
    sums: Int64Array = lanes.sum(axis=0, dtype=np.int64)
    return sums
