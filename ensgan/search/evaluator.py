"""Exact objectives of many subsets at once, without a single distance.

Masks are packed into 64-bit words: a union is an OR, its coverage a population count. Dense
batches read the OR of eight members at a time from a table; neighbourhoods reuse the unions that
leave one member out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ensgan.errors import InputError, unknown_name
from ensgan.search import exchange, kernels
from ensgan.search.lookup import pair_sums, sums_of_eight, unions_of_eight
from ensgan.search.masks import BLOCK_BYTES, BoolArray, UInt64Array, pack_words, popcount
from ensgan.search.objectives import ObjectiveTables, tables_from_scores
from ensgan.search.values import Neighbourhood, Values
from ensgan.types import Float64Array, Int64Array, PoolScores, harmonic_mean


class Evaluator:
    """Exact (Intra-d, Inter-d, density, coverage) of subsets of a pool.

    Args:
        scores: a scored pool, or tables made by hand (precision/recall form, for example).
        inter: form of Inter-d, ``symmetric`` or ``directed``; ignored for tables.
        kernel: ``numpy``, ``numba`` (compiled; needs the numba package) or ``auto`` (compiled
            when this process has compiled already, so that a short job never waits for it).

    Raises:
        InputError: unknown form or kernel, or numba asked for and not installed.
        DataError: scores no ensemble can be scored with.

    Source: the decomposition is exact because the radii of the real points are fixed (Naeem et
    al. 2020, equations of density and coverage); Inter-d follows Tronchin et al. 2026.
    """

    def __init__(
        self,
        scores: PoolScores | ObjectiveTables,
        *,
        inter: str = "symmetric",
        kernel: str = "auto",
    ) -> None:
        if isinstance(scores, PoolScores):
            scores = tables_from_scores(scores, inter)
        self.tables = scores
        self.names = scores.names
        self.objectives = scores.objectives
        self.points = scores.points
        self.shares = scores.shares
        self.linear = scores.shares * scores.linear
        self.pair = np.where(np.eye(len(self.names), dtype=bool), 0.0, scores.pair)
        self.words = pack_words(scores.masks)
        self._index = {name: index for index, name in enumerate(self.names)}
        self._kernel = kernel
        if kernel not in kernels.KERNELS:
            raise InputError(unknown_name("kernel", kernel, kernels.KERNELS))
        if kernel == "numba":
            kernels.load()

    def __len__(self) -> int:
        return len(self.names)

    def indices(self, members: Iterable[str]) -> tuple[int, ...]:
        """Pool positions of member names, ascending.

        Raises:
            InputError: a name is not in the pool, or repeats.
        """
        found = []
        for name in members:
            if name not in self._index:
                raise InputError(unknown_name("member", name, self.names))
            found.append(self._index[name])
        if len(set(found)) != len(found):
            raise InputError(f"members repeat in {', '.join(self.names[i] for i in sorted(found))}")
        return tuple(sorted(found))

    def subsets(self, members: Iterable[Sequence[int]]) -> BoolArray:
        """Index lists as rows of a bool [B,M] matrix."""
        rows = list(members)
        matrix = np.zeros((len(rows), len(self)), bool)
        for row, chosen in enumerate(rows):
            matrix[row, list(chosen)] = True
        return matrix

    def __call__(self, subsets: npt.ArrayLike) -> Values:
        """Evaluate subsets given as bool [B,M]; fewer than two members give Inter-d nan.

        Raises:
            InputError: another shape.
        """
        matrix = np.ascontiguousarray(subsets, dtype=np.bool_)
        if matrix.ndim != 2 or matrix.shape[1] != len(self):
            raise InputError(f"subsets must be [B,{len(self)}], not {list(matrix.shape)}")
        compiled = self._compiled
        if compiled is not None:
            flags = np.zeros((len(matrix), (len(self) + 15) // 16 * 16), np.bool_)
            flags[:, : len(self)] = matrix
            tables = (self._groups, *self._sums, self.points)
            values = Values(*compiled.batch(flags.view(np.uint64), *tables))
            return self._with_fidelity(values, matrix)
        covered = np.empty(len(matrix), np.int64)
        block = max(1, BLOCK_BYTES // (8 * max(self.words.shape[1], len(self))))
        for start in range(0, len(matrix), block):
            rows = matrix[start : start + block]
            covered[start : start + block] = popcount(self._union(rows)).sum(axis=1)
        weights = matrix.astype(np.float64)
        sizes = weights.sum(axis=1)
        pair_sum = 0.5 * np.einsum("bm,bm->b", weights @ self.pair, weights)
        values = self._values(
            weights @ self.linear, weights @ self.shares, covered, pair_sum, sizes
        )
        return self._with_fidelity(values, matrix)

    def pairs(self, first: Int64Array, second: Int64Array) -> Values:
        """Evaluate the ensembles {first[i], second[i]}: two members each, so no table is needed."""
        covered = np.empty(len(first), np.int64)
        block = max(1, BLOCK_BYTES // (16 * self.words.shape[1]))
        for start in range(0, len(first), block):
            rows = slice(start, start + block)
            union = self.words[first[rows]] | self.words[second[rows]]
            covered[rows] = popcount(union).sum(axis=1)
        values = self._values(
            self.linear[first] + self.linear[second],
            self.shares[first] + self.shares[second],
            covered,
            self.pair[first, second],
            np.full(len(first), 2.0),
        )
        if self.tables.fidelity is None:
            return values
        return self._with_fidelity(values, self.subsets(np.column_stack((first, second)).tolist()))

    def _with_fidelity(self, values: Values, matrix: BoolArray) -> Values:
        """The same with Intra-d from the tables' own fidelity, where they have one."""
        fidelity = self.tables.fidelity
        return values if fidelity is None else replace(values, intra_d=fidelity(matrix))

    def evaluate(
        self, members: Sequence[int], weights: Sequence[float] | None = None
    ) -> tuple[float, float, float, float]:
        """(Intra-d, Inter-d, density, coverage) of one subset, optionally with member weights.

        With weights w (≥ 0, sum 1) density is Σ w·density_g and coverage that of the members
        with w > 0; Inter-d stays the unweighted mean over pairs.

        Raises:
            InputError: fewer than two members, or weights that are no distribution.
        """
        chosen = list(members)
        if len(set(chosen)) < 2:
            raise InputError(f"an ensemble needs at least 2 members, not {len(set(chosen))}")
        values = self(self.subsets([chosen]))
        intra, inter = float(values.intra_d[0]), float(values.inter_d[0])
        density, coverage = float(values.density[0]), float(values.coverage[0])
        if weights is None:
            return intra, inter, density, coverage
        w = np.asarray(weights, np.float64)
        if w.shape != (len(chosen),) or not (w >= 0).all() or abs(w.sum() - 1) > 1e-9:
            raise InputError(
                f"weights must be {len(chosen)} numbers ≥ 0 of sum 1, not {w.tolist()}"
            )
        if self.tables.fidelity is not None:
            raise InputError("member weights go with density and coverage only")
        density = float(w @ self.tables.linear[chosen])
        used = [index for index, share in zip(chosen, w, strict=True) if share > 0]
        union = np.bitwise_or.reduce(self.words[used], axis=0)
        coverage = float(popcount(union).sum()) / self.points
        return float(harmonic_mean(density, coverage)), inter, density, coverage

    def neighbours(
        self,
        members: Sequence[int],
        added: npt.ArrayLike | None = None,
        *,
        removed: npt.ArrayLike | None = None,
    ) -> Neighbourhood:
        """Evaluate every addition, removal and swap of ``members`` at once.

        Args:
            members: pool positions of the subset.
            added: pool positions that may come in; None for all others.
            removed: members that may leave; None for all.
        """
        inside = np.array(sorted(members), np.int64)
        if added is None:
            free = np.ones(len(self), bool)
            free[inside] = False
            added = np.flatnonzero(free)
        outside = np.asarray(added, np.int64)
        places = np.arange(len(inside))
        if removed is not None:
            places = np.searchsorted(inside, np.asarray(removed, np.int64))
        compiled = self._compiled
        evaluate = exchange.neighbours if compiled is None else compiled.neighbours
        tables = (self.pair, self.linear, self.shares, self.points)
        values = Values(*evaluate(self.words, inside, places, outside, *tables))
        near = Neighbourhood(tuple(inside.tolist()), inside[places], outside, values)
        if self.tables.fidelity is None:
            return near
        shape = values.intra_d.shape
        entries = [near.subset(*divmod(entry, shape[1])) for entry in range(values.intra_d.size)]
        intra = self.tables.fidelity(self.subsets(entries)).reshape(shape)
        return replace(near, values=replace(values, intra_d=intra))

    def _values(
        self,
        linear: Float64Array,
        shares: Float64Array,
        covered: npt.NDArray[np.int64],
        pair_sum: Float64Array,
        sizes: Float64Array,
    ) -> Values:
        density = np.divide(linear, shares, out=np.zeros_like(linear), where=shares > 0)
        coverage = covered / self.points
        pairs = 0.5 * sizes * (sizes - 1)
        inter = np.divide(pair_sum, pairs, out=np.full_like(pair_sum, np.nan), where=pairs > 0)
        return Values(harmonic_mean(density, coverage), inter, density, coverage)

    @property
    def _compiled(self) -> kernels.Compiled | None:
        if self._kernel == "numpy":
            return None
        if self._kernel == "auto" and not kernels.loaded():
            return None
        return kernels.load()

    @cached_property
    def _groups(self) -> UInt64Array:
        return unions_of_eight(self.words)

    @cached_property
    def _sums(self) -> tuple[Float64Array, Float64Array, Float64Array]:
        return pair_sums(self.pair), sums_of_eight(self.linear), sums_of_eight(self.shares)

    def _union(self, rows: BoolArray) -> UInt64Array:
        codes = np.packbits(rows, axis=1, bitorder="little")
        union: UInt64Array = self._groups[0].take(codes[:, 0], axis=0)
        for group in range(1, codes.shape[1]):
            union |= self._groups[group].take(codes[:, group], axis=0)
        return union
