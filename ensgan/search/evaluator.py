"""Exact objectives of many subsets at once, without a single distance.

Masks are packed into 64-bit words: a union is an OR, its coverage a population count. Subsets are
evaluated in two ways that must agree (a property test holds them together): from the definition,
and as the single moves away from one subset, which the search asks for a thousand times more often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ensgan.errors import InputError, unknown_name
from ensgan.search.forms import FormInputs, find_form
from ensgan.search.tables import (
    BLOCK_BYTES,
    Ensembles,
    Neighbourhood,
    ObjectiveTables,
    UInt64Array,
    Values,
    after_zero,
    covered_points,
    exchanged,
    leave_one_out,
    pack_words,
)
from ensgan.types import DEFAULT_FORM, BoolArray, Float64Array, FrontPoint, Int64Array, PoolScores


class Evaluator:
    """Exact objectives of the subsets of a pool.

    Args:
        scores: a scored pool, or the tables of a form that needs more than scores.
        inter: form of Inter-d, ``symmetric`` or ``directed``; ignored for tables.
        objectives: form of the objectives, by name, or its tables; ignored for tables.

    Raises:
        InputError: an unknown form, or one that needs the features; tables of other members.
        DataError: scores no ensemble can be scored with.

    Source: the decomposition is exact because the radii of the real points are fixed (Naeem et
    al. 2020, equations of density and coverage); Inter-d follows Tronchin et al. 2026.
    """

    def __init__(
        self,
        scores: PoolScores | ObjectiveTables,
        *,
        inter: str = "symmetric",
        objectives: str | ObjectiveTables = DEFAULT_FORM,
    ) -> None:
        if isinstance(scores, ObjectiveTables):
            objectives = scores
        elif isinstance(objectives, str):
            objectives = find_form(objectives).tables(FormInputs(scores, inter))
        if objectives.names != scores.names:
            raise InputError("the objectives are of other members than the scores")
        self.tables = objectives
        self.names = objectives.names
        self.points = objectives.points
        self.shares = objectives.shares
        # Weighted once: a union's mean is then a quotient of two plain sums.
        self.linear = objectives.shares * objectives.linear
        # A diagonal of 0 lets a product of matrices sum the pairs.
        self.pair = np.where(np.eye(len(self.names), dtype=bool), 0.0, objectives.pair)
        self.words = pack_words(objectives.masks)
        # Words first: the sum over them then runs along whole rows of members.
        self._columns = np.ascontiguousarray(self.words.T)
        self._index = {name: index for index, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def indices(self, members: Iterable[str]) -> tuple[int, ...]:
        """Pool positions of member names, ascending.

        Raises:
            InputError: a name is not in the pool, or repeats.
        """
        positions = []
        for name in members:
            if name not in self._index:
                raise InputError(unknown_name("member", name, self.names))
            positions.append(self._index[name])
        if len(set(positions)) != len(positions):
            raise InputError(
                f"members repeat in {', '.join(self.names[i] for i in sorted(positions))}"
            )
        return tuple(sorted(positions))

    def subsets(self, members: Iterable[Sequence[int]]) -> BoolArray:
        """Index lists as rows of a bool [B,M] matrix."""
        rows = list(members)
        matrix = np.zeros((len(rows), len(self)), bool)
        for row, chosen in enumerate(rows):
            matrix[row, list(chosen)] = True
        return matrix

    def __call__(self, subsets: npt.ArrayLike) -> Values:
        """Evaluate subsets given as bool [B,M]; below two members the second objective is nan.

        Raises:
            InputError: another shape.
        """
        matrix = np.ascontiguousarray(subsets, dtype=np.bool_)
        if matrix.ndim != 2 or matrix.shape[1] != len(self):
            raise InputError(f"subsets must be [B,{len(self)}], not {list(matrix.shape)}")
        weights = matrix.astype(np.float64)
        return self._values(
            linear=weights @ self.linear,
            shares=weights @ self.shares,
            covered=covered_points(self.words, matrix),
            # Every pair is met from both sides; the diagonal is 0.
            pair_sum=0.5 * np.einsum("bm,bm->b", weights @ self.pair, weights),
            sizes=weights.sum(axis=1),
            subsets=lambda: matrix,
        )

    def evaluate(
        self, members: Sequence[int], weights: Sequence[float] | None = None
    ) -> tuple[float, float, float, float]:
        """First and second objective, mean of the linear table and coverage of one subset.

        With weights w (≥ 0, sum 1) the mean is Σ w·linear and coverage that of the members with
        w > 0; the second objective stays the unweighted mean over pairs.

        Raises:
            InputError: fewer than two members, weights that are no distribution, or a form that
                knows no weights.
        """
        chosen = list(members)
        if len(set(chosen)) < 2:
            raise InputError(f"an ensemble needs at least 2 members, not {len(set(chosen))}")
        columns = vars(self(self.subsets([chosen]))).values()
        first, second, mean, coverage = (float(column[0]) for column in columns)
        if weights is None:
            return first, second, mean, coverage
        w = np.asarray(weights, np.float64)
        if w.shape != (len(chosen),) or not (w >= 0).all() or abs(w.sum() - 1) > 1e-9:
            raise InputError(
                f"weights must be {len(chosen)} numbers ≥ 0 of sum 1, not {w.tolist()}"
            )
        if self.tables.whole is not None:
            raise InputError(
                "member weights go with density and coverage only: this form has no use for them"
            )
        mean = float(w @ self.tables.linear[chosen])
        used = self.subsets([[index for index, share in zip(chosen, w, strict=True) if share > 0]])
        coverage = float(covered_points(self.words, used)[0]) / self.points
        first = float(self.tables.combine(np.array(mean), np.array(coverage)))
        return first, second, mean, coverage

    def front_points(self, members: Sequence[Sequence[int]]) -> list[FrontPoint]:
        """Ensembles of two and more members with all that the form says about them."""
        subsets = self.subsets(members)
        shares = subsets * self.shares
        weights = shares / shares.sum(axis=1, keepdims=True)
        ensembles = Ensembles(**vars(self(subsets)), weights=weights)
        return self._points([tuple(sorted(chosen)) for chosen in members], ensembles)

    def weighted_point(self, members: Sequence[int], weights: Sequence[float]) -> FrontPoint:
        """One ensemble with member weights, its members in the given order.

        Raises:
            InputError: as :meth:`evaluate`.
        """
        row = np.zeros((1, len(self)))
        row[0, list(members)] = weights
        first, second, mean, coverage = np.array(self.evaluate(members, weights))[:, None]
        ensemble = Ensembles(first, second, mean, coverage, row)
        return self._points([tuple(members)], ensemble, tuple(weights))[0]

    def moves(
        self,
        members: Sequence[int],
        outside: Int64Array,
        *,
        additions_only: bool = False,
    ) -> Neighbourhood:
        """Evaluate every addition, removal and swap of ``members`` at once.

        Args:
            members: pool positions of the subset.
            outside: pool positions that may come in.
            additions_only: leave removals and swaps out.
        """
        inside = np.array(sorted(members), np.int64)
        leaving = inside[:0] if additions_only else inside
        # An OR cannot be taken back, so the union without each member is made, not subtracted.
        unions = leave_one_out(self.words[inside])[: len(leaving) + 1]
        # The pair sum changes by what leaves and what comes in, less the pair of both.
        with_inside = self.pair[inside].sum(axis=0)  # [M]: each member's sum with the subset
        left = 0.5 * with_inside[inside].sum() - after_zero(with_inside[leaving])
        pair_sum = left[:, None] + after_zero(with_inside[outside])
        pair_sum[1:, 1:] -= self.pair[leaving].take(outside, axis=1)
        sizes = np.full(pair_sum.shape, float(len(inside)))
        sizes[1:, 0] -= 1.0
        sizes[0, 1:] += 1.0
        values = self._values(
            linear=exchanged(self.linear, inside, leaving, outside),
            shares=exchanged(self.shares, inside, leaving, outside),
            covered=self._covered_with(unions, outside),
            pair_sum=pair_sum,
            sizes=sizes,
            subsets=lambda: self._exchanges(inside, leaving, outside),
        )
        return Neighbourhood(tuple(inside.tolist()), leaving, outside, values)

    def pairs(self, one: Int64Array, other: Int64Array) -> Values:
        """Evaluate the ensembles {one[i], other[i]}: two members each need no neighbourhood."""
        covered = np.empty(len(one), np.int64)
        block = max(1, BLOCK_BYTES // (8 * self.words.shape[1]))
        for start in range(0, len(one), block):
            rows = slice(start, start + block)
            union = self.words[one[rows]] | self.words[other[rows]]
            covered[rows] = np.bitwise_count(union).sum(axis=1)
        return self._values(
            linear=self.linear[one] + self.linear[other],
            shares=self.shares[one] + self.shares[other],
            covered=covered,
            pair_sum=self.pair[one, other],
            sizes=np.full(len(one), 2.0),
            subsets=lambda: self.subsets(np.column_stack((one, other)).tolist()),
        )

    def _exchanges(self, inside: Int64Array, leaving: Int64Array, added: Int64Array) -> BoolArray:
        """The entries of a neighbourhood as subsets, row by row."""
        subsets = np.zeros((len(leaving) + 1, len(added) + 1, len(self)), bool)
        subsets[:, :, inside] = True
        subsets[np.arange(1, len(leaving) + 1), :, leaving] = False
        subsets[:, np.arange(1, len(added) + 1), added] = True
        return subsets.reshape(-1, len(self))

    def _covered_with(self, unions: UInt64Array, added: Int64Array) -> npt.NDArray[np.int64]:
        """Points covered by each union alone (column 0) and with each added member's mask."""
        covered = np.empty((len(unions), len(added) + 1), np.int64)
        covered[:, 0] = np.bitwise_count(unions).sum(axis=1)
        incoming = self._columns.take(added, axis=1)
        # Counts of fewer than 65,536 points fit into 16 bits: a quarter of the memory to add up.
        narrow = np.uint16 if self.points < 65536 else np.int64
        block = max(1, BLOCK_BYTES // (8 * max(1, len(added)) * unions.shape[1]))
        for start in range(0, len(unions), block):
            union = unions[start : start + block].T[:, :, None] | incoming[:, None, :]
            bits = np.add.reduce(np.bitwise_count(union), axis=0, dtype=narrow)
            covered[start : start + block, 1:] = bits
        return covered

    def _values(
        self,
        *,
        linear: Float64Array,
        shares: Float64Array,
        covered: npt.NDArray[np.int64],
        pair_sum: Float64Array,
        sizes: Float64Array,
        subsets: Callable[[], BoolArray],
    ) -> Values:
        """From sums to objectives: the one place where the form comes in."""
        # Sums that were changed step by step leave a remainder where no member is in; without a
        # pair the second objective is nan.
        alone = sizes < 2
        if alone.any():
            empty = sizes < 1
            linear, shares = np.where(empty, 0.0, linear), np.where(empty, 1.0, shares)
            sizes = np.where(alone, np.nan, sizes)
        mean: Float64Array = linear / shares
        coverage = covered / self.points
        second: Float64Array = pair_sum / (0.5 * sizes * (sizes - 1))
        if self.tables.whole is None:
            first = self.tables.combine(mean, coverage)
        else:
            first = self.tables.whole(subsets()).reshape(mean.shape)
        return Values(first, second, mean, coverage)

    def _points(
        self,
        members: Sequence[tuple[int, ...]],
        ensembles: Ensembles,
        weights: tuple[float, ...] | None = None,
    ) -> list[FrontPoint]:
        described = self.tables.describe(ensembles)
        measures = {name: column.tolist() for name, column in described.items()}
        density, coverage = (measures.pop(name, None) for name in ("density", "coverage"))
        return [
            FrontPoint(
                tuple(self.names[m] for m in chosen),
                float(ensembles.first[i]),
                float(ensembles.second[i]),
                None if density is None else density[i],
                None if coverage is None else coverage[i],
                weights,
                tuple((name, column[i]) for name, column in measures.items()),
                self.tables.keys,
            )
            for i, chosen in enumerate(members)
        ]
