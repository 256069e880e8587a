"""What an ensemble is worth: the tables from which both objectives of any subset follow exactly.

For fixed real points and fixed samples, the density of a union of members is the mean of their
densities weighted by sample counts, and its coverage is the OR of their masks. So a table of
linear scores, a bit mask per member and a matrix of pairs hold everything the search needs. Masks
are worked on 64 points to a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ensgan.errors import DataError, InputError, unknown_name
from ensgan.text import some
from ensgan.types import (
    BoolArray,
    Float64Array,
    Int64Array,
    Objective,
    UInt8Array,
    harmonic_mean,
)


@dataclass(frozen=True)
class Values:
    """Objectives of B subsets, each float64 [B] (or [rows, columns] of a neighbourhood).

    ``mean`` is the share-weighted mean of the form's linear table (of densities, in the paper's
    form), ``coverage`` the share of real points that the OR of the masks covers.
    """

    first: Float64Array
    second: Float64Array
    mean: Float64Array
    coverage: Float64Array


@dataclass(frozen=True)
class Neighbourhood:
    """Every subset one addition, removal or swap away from ``members``.

    Entry [i, j] of ``values`` drops ``removed[i-1]`` and takes in ``added[j-1]``; row 0 removes
    nothing, column 0 adds nothing, so [0, 0] is the subset itself. Subsets of fewer than two
    members have the second objective nan.
    """

    members: tuple[int, ...]
    removed: Int64Array
    added: Int64Array
    values: Values

    def subset(self, row: int, column: int) -> tuple[int, ...]:
        """The members of entry [row, column], ascending."""
        kept = set(self.members)
        if row:
            kept.discard(int(self.removed[row - 1]))
        if column:
            kept.add(int(self.added[column - 1]))
        return tuple(sorted(kept))


_ZERO = np.zeros(1)


def exchanged(
    values: Float64Array, inside: Int64Array, removed: Int64Array, added: Int64Array
) -> Float64Array:
    """The sum of the members' values [M] in every subset of a neighbourhood.

    Summed anew for the subset itself: a running sum would drift past a limit that is met exactly.
    """
    left = values[inside].sum() - after_zero(values[removed])
    return np.asarray(left[:, None] + after_zero(values[added]))


def after_zero(values: Float64Array) -> Float64Array:
    """The values of a neighbourhood's rows or columns: the first neither removes nor adds."""
    return np.concatenate((_ZERO, values))


@dataclass(frozen=True)
class Ensembles(Values):
    """B evaluated ensembles, for a form to say more about.

    Attributes:
        weights: float64 [B, M], each member's share of its ensemble; rows sum to 1.
    """

    weights: Float64Array


Combine: TypeAlias = Callable[[Float64Array, Float64Array], Float64Array]
Whole: TypeAlias = Callable[[BoolArray], Float64Array]
Describe: TypeAlias = Callable[[Ensembles], Mapping[str, Float64Array]]


def density_and_coverage(ensembles: Ensembles) -> Mapping[str, Float64Array]:
    """The mean and the coverage under these names."""
    return {"density": ensembles.mean, "coverage": ensembles.coverage}


@dataclass(frozen=True)
class ObjectiveTables:
    """The decomposed objectives of M members over N points.

    The first objective of a subset is ``combine`` of the share-weighted mean of ``linear`` and of
    the fraction of points that the OR of ``masks`` covers; the second is the mean of ``pair`` over
    the unordered pairs.

    Attributes:
        names: member names in pool order.
        linear: float64 [M], ≥ 0.
        masks: uint8 [M, ceil(N/8)], bits beyond N are 0.
        pair: float64 [M,M], symmetric; the diagonal is not read.
        shares: float64 [M], > 0: sample counts (equal counts give the plain mean).
        points: N.
        axes: what the two objectives are; the first is maximised, the second minimised.
        form: name of the form.
        combine: from means and coverages to the first objective, elementwise. It must fall with
            neither: exhaustive search takes its value of the largest mean and coverage that can
            still be reached as a bound.
        whole: computes the first objective of subsets bool [B,M] where it does not follow from
            mean and coverage, float64 [B], 0 for the empty subset. No bound is known then.
        describe: what front points say besides their objectives, by name, float64 [B] each;
            ``density`` and ``coverage`` become fields of the point, the rest its measures.

    Raises:
        DataError: fewer than two members, or values that no ensemble can be scored with.
    """

    names: tuple[str, ...]
    linear: Float64Array
    masks: UInt8Array
    pair: Float64Array
    shares: Float64Array
    points: int
    axes: tuple[Objective, Objective]
    form: str
    combine: Combine = harmonic_mean
    whole: Whole | None = None
    describe: Describe = density_and_coverage

    def __post_init__(self) -> None:
        m = len(self.names)
        if m < 2:
            raise DataError(f"an ensemble needs at least 2 members, the pool has {m}")
        shapes = {"linear": (m,), "pair": (m, m), "shares": (m,)}
        for field, shape in shapes.items():
            if getattr(self, field).shape != shape:
                raise DataError(f"{field} has shape {getattr(self, field).shape}, not {shape}")
        if self.masks.shape != (m, (self.points + 7) // 8) or self.points < 1:
            raise DataError(
                f"masks {self.masks.shape} do not fit {m} members, {self.points} points"
            )
        if not self.axes[0].maximise or self.axes[1].maximise:
            raise DataError(
                f"objectives {' and '.join(axis.text for axis in self.axes)}: the first must be "
                "maximised and the second minimised; turn the tables round"
            )
        self._check_values()

    @property
    def keys(self) -> tuple[str, str]:
        """The two objectives as front files spell them."""
        return self.axes[0].key, self.axes[1].key

    def _check_values(self) -> None:
        for field, values, low in (("score", self.linear, 0.0), ("share", self.shares, 1e-300)):
            for index in np.flatnonzero(~(np.isfinite(values) & (values >= low))):
                raise DataError(
                    f"{self.names[index]} has {field} {values[index]}: score the pool again"
                )
        off_diagonal = ~np.eye(len(self.names), dtype=bool)
        wrong_pairs = np.argwhere(~np.isfinite(self.pair) & off_diagonal)
        if len(wrong_pairs):
            g, h = (self.names[int(index)] for index in wrong_pairs[0])
            raise DataError(
                f"the overlap of {g} and {h} is {self.pair[tuple(wrong_pairs[0])]} "
                f"({len(wrong_pairs)} such entries): score the pool again or exclude the member"
            )


THIRDS = ("members", "cost", "parameters", "seconds")
"""Third objectives: a number of members, or a sum of costs by what it counts."""


@dataclass(frozen=True)
class ThirdObjective:
    """A sum over the members to keep small: ``costs`` float64 [M] ≥ 0, counted in ``unit``."""

    costs: Float64Array
    unit: str

    @classmethod
    def of(
        cls, names: Sequence[str], third: str, costs: Mapping[str, float] | None
    ) -> ThirdObjective:
        """``members`` (as few as possible), or a sum of ``costs`` by what it counts.

        Raises:
            InputError: another name, or costs that are missing, negative or not finite.
        """
        if third not in THIRDS:
            raise InputError(unknown_name("third objective", third, THIRDS))
        if third == "members":
            return cls(np.ones(len(names)), third)
        if costs is None:
            raise InputError(f"third objective '{third}' needs the cost of every member")
        return cls(costs_of(names, costs), third)


def costs_of(names: Sequence[str], costs: Mapping[str, float]) -> Float64Array:
    """The cost of every member, float64 [M].

    Raises:
        InputError: a member without a cost, or one that is negative or not finite.
    """
    missing = [name for name in names if name not in costs]
    if missing:
        raise InputError(f"the costs give no cost for {some(missing)}")
    table = np.array([costs[name] for name in names], np.float64)
    for row in np.flatnonzero(~(np.isfinite(table) & (table >= 0))):
        name = names[int(row)]
        raise InputError(f"the cost of {name} is {costs[name]}: it must be a number ≥ 0")
    return table


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
