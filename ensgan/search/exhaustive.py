"""Every ensemble up to a size, with an exact bound: proves the front of small ensembles.

Partial subsets are extended in pool order. A partial subset is dropped when no completion to the
size in hand can enter the front: its second objective is at least the pairs it has plus the
cheapest pairs it must still take in (a third objective likewise), its first at most what the best
means and the largest gains in coverage allow (gains only shrink as a union grows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensgan.search.ledger import SearchLedger
from ensgan.search.local_search import LocalSearch
from ensgan.search.masks import BoolArray, UInt64Array, popcount
from ensgan.search.pareto import TIE
from ensgan.types import Float64Array, Int64Array

_BLOCK = 4096
_HEAD_START = 150  # local search steps before: the better the front, the more is pruned


@dataclass(frozen=True)
class _Partial:
    """Partial subsets of one size, as arrays over the subsets."""

    members: Int64Array  # [B, size], positions in the pool, ascending
    union: UInt64Array  # [B, W]
    pair_sum: Float64Array  # [B]
    linear: Float64Array  # [B]
    shares: Float64Array  # [B]
    to_subset: Float64Array  # [B, M], each member's pair sum with the subset

    def take(self, rows: Int64Array | BoolArray) -> _Partial:
        return _Partial(
            self.members[rows],
            self.union[rows],
            self.pair_sum[rows],
            self.linear[rows],
            self.shares[rows],
            self.to_subset[rows],
        )


def exhaustive(ledger: SearchLedger, starts: Sequence[Sequence[int]] = ()) -> None:
    """Search size after size until the budget or the largest size is reached.

    The ledger's ``proven`` says which sizes are proven: ``:2-4`` means that no ensemble of 2 to 4
    allowed members is missing. Without a budget the largest size is max_size.
    """
    local = LocalSearch(ledger, starts)
    for _ in range(_HEAD_START):
        if ledger.finished or local.complete:
            break
        local.step()
    search = _Enumeration(ledger)
    for size in range(ledger.constraints.min_size, ledger.constraints.max_size + 1):
        if not search.prove(size):
            return
        ledger.proven = f":{ledger.constraints.min_size}-{size}"


class _Enumeration:
    """Branch and bound over the subsets of one size at a time."""

    def __init__(self, ledger: SearchLedger) -> None:
        self.ledger = ledger
        self.evaluator = ledger.evaluator
        constraints = ledger.constraints
        self.required = constraints.required
        self.order = constraints.free
        self.cheapest_pair = self._cheapest_pair()
        self.cheapest = np.concatenate(([0.0], np.cumsum(np.sort(ledger.costs[self.order]))))

    def prove(self, size: int) -> bool:
        """Enumerate all subsets of ``size`` members; False when the budget ended before."""
        missing = size - len(self.required)
        if missing < 0:
            return True
        stack = [(self._root(), np.zeros(1, np.int64))]
        while stack:
            if self.ledger.finished:
                return False
            partial, first = stack.pop()
            missing = size - partial.members.shape[1]
            if missing == 0:
                self._offer(partial.members)
                continue
            stack += self._children(partial, first, size, missing)
        return True

    def _root(self) -> _Partial:
        evaluator, required = self.evaluator, self.required
        union = np.zeros((1, evaluator.words.shape[1]), np.uint64)
        for member in required:
            union |= evaluator.words[member]
        pair = evaluator.pair
        return _Partial(
            required[None, :],
            union,
            np.array([0.5 * pair[np.ix_(required, required)].sum()]),
            np.array([evaluator.linear[required].sum()]),
            np.array([evaluator.shares[required].sum()]),
            pair[required].sum(axis=0)[None, :],
        )

    def _children(
        self, partial: _Partial, first: Int64Array, size: int, missing: int
    ) -> list[tuple[_Partial, Int64Array]]:
        """All extensions by one later member that may still reach the front, in blocks."""
        last = len(self.order) - missing  # the remaining ones must still fit behind
        rows, places = np.nonzero(np.arange(last + 1)[None, :] >= first[:, None])
        blocks = []
        for start in range(0, len(rows), _BLOCK):
            row, place = rows[start : start + _BLOCK], places[start : start + _BLOCK]
            child = self._extend(partial, row, self.order[place])
            keep = self._hopeful(child, place + 1, size)
            if keep.any():
                blocks.append((child.take(keep), place[keep] + 1))
        return blocks

    def _extend(self, partial: _Partial, row: Int64Array, member: Int64Array) -> _Partial:
        evaluator = self.evaluator
        return _Partial(
            np.column_stack((partial.members[row], member)),
            partial.union[row] | evaluator.words[member],
            partial.pair_sum[row] + partial.to_subset[row, member],
            partial.linear[row] + evaluator.linear[member],
            partial.shares[row] + evaluator.shares[member],
            partial.to_subset[row] + evaluator.pair[member],
        )

    def _hopeful(self, child: _Partial, first: Int64Array, size: int) -> BoolArray:
        missing = size - child.members.shape[1]
        second = self._second_bound(child, first, size)
        cost = self.ledger.costs[child.members].sum(axis=1) + self.cheapest[missing]
        needed = self.ledger.archive.best_first(second, cost)
        # Most fall already with coverage taken as complete; only the rest is worth counting bits.
        hopeful = self._first_bound(child, missing, coverage_known=False) > needed + TIE
        rows = np.flatnonzero(hopeful)
        if len(rows):
            few = child.take(rows)
            hopeful[rows] = (
                self._first_bound(few, missing, coverage_known=True) > needed[rows] + TIE
            )
        return hopeful

    def _second_bound(self, child: _Partial, first: Int64Array, size: int) -> Float64Array:
        """Smallest second objective of any completion to ``size`` members."""
        # Pairs still to come: the cheapest later members' pairs with what is in, and among
        # themselves at least as many of the cheapest pair of all.
        missing = size - child.members.shape[1]
        least = child.pair_sum
        if missing:
            later = np.arange(len(self.order))[None, :] >= first[:, None]
            sums = np.where(later, child.to_subset[:, self.order], np.inf)
            least = least + np.partition(sums, missing - 1, axis=1)[:, :missing].sum(axis=1)
            least = least + 0.5 * missing * (missing - 1) * self.cheapest_pair
        bound: Float64Array = least / (0.5 * size * (size - 1))
        return bound

    def _first_bound(self, child: _Partial, missing: int, *, coverage_known: bool) -> Float64Array:
        """Largest first objective of any completion: that of its best mean and coverage."""
        evaluator = self.evaluator
        if evaluator.tables.whole is not None:
            return np.full(
                len(child.linear), np.inf
            )  # no bound known: the second objective alone prunes
        if missing == 0:
            mean = child.linear / child.shares
        else:
            # The largest mean takes the densest members; those above the mean count most at
            # the largest share, the others least at the smallest.
            mean = np.full(len(child.linear), -np.inf)
            share = evaluator.shares[self.order]
            densest = np.sort(evaluator.tables.linear[self.order])[::-1][:missing]
            for many in range(missing + 1):
                weight = np.where(np.arange(missing) < many, share.max(), share.min())
                total = child.linear + weight @ densest
                mean = np.maximum(mean, total / (child.shares + weight.sum()))
        coverage = np.ones(len(mean))
        if coverage_known:
            coverage = popcount(child.union).sum(axis=1) / evaluator.points
            if missing:
                coverage = np.minimum(1.0, coverage + self._gains(child.union, missing))
        return evaluator.tables.combine(mean, coverage)

    def _gains(self, union: UInt64Array, missing: int) -> Float64Array:
        """Most that ``missing`` members can add to each union's coverage."""
        # Each counts what it would add alone: together they add less, so the sum is a bound.
        words = self.evaluator.words[self.order]
        gains = np.empty((len(union), len(words)), np.int64)
        outside = ~union
        step = max(1, (1 << 22) // (8 * words.size))
        for start in range(0, len(union), step):
            rows = outside[start : start + step]
            gains[start : start + step] = popcount(rows[:, None, :] & words).sum(axis=2)
        top = np.partition(gains, len(words) - missing, axis=1)[:, len(words) - missing :]
        total: Float64Array = top.sum(axis=1) / self.evaluator.points
        return total

    def _offer(self, members: Int64Array) -> None:
        subsets = np.zeros((len(members), len(self.evaluator)), bool)
        np.put_along_axis(subsets, members, True, axis=1)
        fits = self.ledger.constraints.feasible(subsets)
        if fits.any():
            self.ledger.offer(subsets[fits])

    def _cheapest_pair(self) -> float:
        pair = self.evaluator.pair[np.ix_(self.order, self.order)]
        off_diagonal = pair[~np.eye(len(pair), dtype=bool)]
        return float(off_diagonal.min()) if off_diagonal.size else 0.0
