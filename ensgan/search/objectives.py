"""What an ensemble is worth: the tables from which both objectives of any subset follow exactly.

For fixed real points and fixed samples, the density of a union of members is the mean of their
densities weighted by sample counts, and its coverage is the OR of their masks. So a table of
linear scores, a bit mask a member and a matrix of pairs hold everything the search needs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ensgan.errors import DataError, InputError, unknown_name
from ensgan.files import sha256_arrays
from ensgan.types import Float64Array, PairPrecision, PoolScores, UInt8Array, harmonic_mean

Fidelity: TypeAlias = Callable[[npt.NDArray[np.bool_]], Float64Array]
Describe: TypeAlias = Callable[[Float64Array], Mapping[str, Float64Array]]
"""From Intra-d, Inter-d, linear score and coverage, float64 [4, B], to named values [B] each."""


@dataclass(frozen=True)
class ObjectiveTables:
    """The decomposed objectives of M members over N points.

    Intra-d of a subset is the harmonic mean of the share-weighted mean of ``linear`` and of the
    fraction of points that the OR of ``masks`` covers; Inter-d is the mean of ``pair`` over the
    unordered pairs. Density and coverage fill the tables for Intra-d; precision (linear) and
    recall (masks: the real points inside each member's own balls) fill them for the
    precision/recall form.

    Attributes:
        names: member names in pool order.
        linear: float64 [M], ≥ 0.
        masks: uint8 [M, ceil(N/8)], bits beyond N are 0.
        pair: float64 [M,M], symmetric; the diagonal is not read.
        shares: float64 [M], > 0: sample counts (equal counts give the plain mean).
        points: N.
        objectives: names for the front file.
        fidelity: computes Intra-d of subsets bool [B,M] in place of the harmonic mean, float64
            [B], 0 for the empty subset; larger must be better.
        describe: what else a front file says about its points, from their values.

    Raises:
        DataError: fewer than two members, or values that no ensemble can be scored with.
    """

    names: tuple[str, ...]
    linear: Float64Array
    masks: UInt8Array
    pair: Float64Array
    shares: Float64Array
    points: int
    objectives: tuple[str, ...]
    fidelity: Fidelity | None = None
    describe: Describe | None = None

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
        self._check_values()

    def _check_values(self) -> None:
        for field, values, low in (("score", self.linear, 0.0), ("share", self.shares, 1e-300)):
            wrong = np.flatnonzero(~(np.isfinite(values) & (values >= low)))
            if len(wrong):
                index = int(wrong[0])
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


def _symmetric(scores: PoolScores) -> Float64Array:
    return scores.overlap


def _directed(scores: PoolScores) -> Float64Array:
    # Of a pair, the later member in pool order carries the balls.
    later_carries = np.tril(np.nan_to_num(scores.directed, nan=0.0), -1)
    blank = np.tril(np.isnan(scores.directed), -1)
    pair = later_carries + later_carries.T
    pair[blank | blank.T] = np.nan
    return pair


INTER: dict[str, Callable[[PoolScores], Float64Array]] = {
    "symmetric": _symmetric,
    "directed": _directed,
}
"""Forms of Inter-d: how the two directed values of a pair become one."""


def tables_from_scores(scores: PoolScores, inter: str = "symmetric") -> ObjectiveTables:
    """Intra-d and Inter-d of a scored pool.

    Raises:
        InputError: ``inter`` is no known form.
        DataError: values that no ensemble can be scored with (nan, masks that contradict
            the coverage, fewer than two members).
    """
    if inter not in INTER:
        raise InputError(unknown_name("form of Inter-d", inter, INTER))
    covered = np.unpackbits(scores.masks, axis=1).sum(axis=1)
    wrong = np.flatnonzero(
        ~np.isfinite(scores.coverage) | (np.rint(scores.coverage * scores.n_real) != covered)
    )
    if len(wrong):
        g = int(wrong[0])
        raise DataError(
            f"{scores.names[g]} has coverage {scores.coverage[g]} of {scores.n_real} points but "
            f"its mask marks {int(covered[g])}: the scores file contradicts itself"
        )
    return ObjectiveTables(
        names=scores.names,
        linear=scores.density,
        masks=scores.masks,
        pair=INTER[inter](scores),
        shares=scores.counts.astype(np.float64),
        points=scores.n_real,
        objectives=("intra_d:max", f"inter_d:min:{inter}"),
    )


def tables_from_precision_recall(scores: PoolScores, found: PairPrecision) -> ObjectiveTables:
    """The precision/recall form of both objectives.

    Intra-d is the harmonic mean of the union's precision (share-weighted mean, exact) and of the
    share of real points that lie in a ball of some member, each member with its own radii: radii
    of the union itself would shrink with every member, so a larger ensemble could lose recall.
    Inter-d is the mean over pairs of the harmonic mean of both directions' precision.

    Raises:
        InputError: measured on other members or real points than the scores.
    """
    if found.names != scores.names or found.points != scores.n_real:
        raise InputError(
            f"precision and recall of {len(found.names)} members over {found.points} real points "
            f"do not fit scores of {len(scores)} members over {scores.n_real}: use the features "
            "that were scored"
        )
    return ObjectiveTables(
        names=scores.names,
        linear=found.precision,
        masks=found.masks,
        pair=harmonic_mean(found.between, found.between.T),
        shares=scores.counts.astype(np.float64),
        points=scores.n_real,
        objectives=("precision_recall:max", "precision_recall_between:min"),
        describe=lambda values: {"precision": values[2], "recall": values[3]},
    )


def pool_key(scores: PoolScores) -> str:
    """Content key of a scored pool, 16 hexadecimal digits: a front names the pool it is of."""
    digest = sha256_arrays(
        np.array(scores.names),
        scores.density,
        scores.masks,
        np.nan_to_num(scores.directed),
        np.nan_to_num(scores.overlap),
        np.array([scores.k, scores.n_real]),
        scores.counts,
    )
    return digest[:16]


def check_comparable(pools: Sequence[PoolScores], *, besides: Collection[str] = ()) -> None:
    """Refuse to compare scores that were not taken the same way.

    Args:
        pools: two and more.
        besides: what may differ on purpose: ``n_real`` for a held-out part of the real data,
            ``extractor`` for another embedding.

    Raises:
        InputError: k, sample counts, number of real points or extractor differ.
    """
    first = pools[0]
    for other in pools[1:]:
        for field in ("k", "n_real", "extractor"):
            if field not in besides and getattr(first, field) != getattr(other, field):
                raise InputError(
                    f"scores with {field} {getattr(first, field)!r} and "
                    f"{getattr(other, field)!r} cannot be compared: score both the same way"
                )
        if set(first.counts.tolist()) != set(other.counts.tolist()):
            raise InputError(
                f"scores of {first.counts[0]} and of {other.counts[0]} images a member cannot be "
                "compared: score both with the same number of images"
            )
