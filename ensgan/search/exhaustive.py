"""Every ensemble up to a size, with an exact bound: proves the front of small ensembles.

Partial subsets are extended in pool order. A partial subset is dropped when no completion to the
size in hand can enter the front: its second objective is at least the pairs it has plus the
cheapest pairs it must still take in (a third objective likewise), its first at most what the best
means and the largest gains in coverage allow (gains only shrink as a union grows).
"""

from __future__ import annotations

import numpy as np

from ensgan.search.ledger import SearchLedger
from ensgan.search.local_search import LocalSearch
from ensgan.search.pareto import TIE
from ensgan.search.sampler import SamplerInputs
from ensgan.search.tables import BLOCK_BYTES, UInt64Array
from ensgan.types import BoolArray, Float64Array, Int64Array

_BLOCK = 4096
_HEAD_START = 150  # local search steps before: the better the front, the more is pruned


def exhaustive(ledger: SearchLedger, inputs: SamplerInputs) -> None:
    """Search size after size until the budget or the largest size is reached.

    The ledger's ``proven`` says which sizes are proven: ``:2-4`` means that no ensemble of 2 to 4
    allowed members is missing. Without a budget the largest size is max_size.
    """
    local = LocalSearch(ledger, inputs.starts)
    for _ in range(_HEAD_START):
        if ledger.finished or local.complete:
            break
        local.step()
    search = Enumeration(ledger)
    for size in range(ledger.constraints.min_size, ledger.constraints.max_size + 1):
        if not search.prove(size):
            return
        ledger.proven = f":{ledger.constraints.min_size}-{size}"


class Enumeration:
    """Branch and bound over the subsets of one size at a time.

    Partial subsets of one size are int64 [B, size], positions in the pool, required members first.
    """

    def __init__(self, ledger: SearchLedger) -> None:
        self.ledger = ledger
        self.evaluator = ledger.evaluator
        self.required = ledger.constraints.required
        self.order = ledger.constraints.free
        self._pair_with_free = self.evaluator.pair[:, self.order]
        pair = self._pair_with_free[self.order]
        self._cheapest_pair = pair[~np.eye(len(pair), dtype=bool)].min(initial=np.inf)
        self._cheapest = np.concatenate(([0.0], np.cumsum(np.sort(ledger.costs[self.order]))))

    def prove(self, size: int) -> bool:
        """Enumerate all subsets of ``size`` members; False when the budget ended before."""
        if size < len(self.required):
            return True
        stack = [(self.required[None, :], np.zeros(1, np.int64))]
        while stack:
            if self.ledger.finished:
                return False
            members, first = stack.pop()
            if members.shape[1] < size:
                stack += self._children(members, first, size)
            else:
                subsets = np.zeros((len(members), len(self.evaluator)), np.bool_)
                np.put_along_axis(subsets, members, True, axis=1)
                self.ledger.offer(subsets[self.ledger.constraints.feasible(subsets)])
        return True

    def _children(
        self, members: Int64Array, first: Int64Array, size: int
    ) -> list[tuple[Int64Array, Int64Array]]:
        """All extensions by one later member that may still reach the front, in blocks.

        ``first``: for each partial subset, where in ``order`` its later members begin.
        """
        last = len(self.order) - (size - members.shape[1])  # the rest must still fit behind
        rows, places = np.nonzero(np.arange(last + 1)[None, :] >= first[:, None])
        blocks = []
        for start in range(0, len(rows), _BLOCK):
            row, place = rows[start : start + _BLOCK], places[start : start + _BLOCK]
            child = np.column_stack((members[row], self.order[place]))
            keep = self._hopeful(child, place + 1, size)
            if keep.any():
                blocks.append((child[keep], place[keep] + 1))
        return blocks

    def _hopeful(self, members: Int64Array, first: Int64Array, size: int) -> BoolArray:
        missing = size - members.shape[1]
        second = self.second_bound(members, first, size)
        cost = self.ledger.costs[members].sum(axis=1) + self._cheapest[missing]
        needed = self.ledger.archive.best_first(second, cost) + TIE
        # Most fall already with coverage taken as complete; only the rest is worth counting bits.
        hopeful = self.first_bound(members, missing, coverage_known=False) > needed
        rows = np.flatnonzero(hopeful)
        if len(rows):
            bound = self.first_bound(members[rows], missing, coverage_known=True)
            hopeful[rows] = bound > needed[rows]
        return hopeful

    def second_bound(self, members: Int64Array, first: Int64Array, size: int) -> Float64Array:
        """Smallest second objective of any completion to ``size`` members, [B]."""
        pair = self.evaluator.pair
        # Every pair is met from both sides.
        least = 0.5 * pair[members[:, :, None], members[:, None, :]].sum(axis=(1, 2))
        # Pairs still to come: the cheapest later members' pairs with what is in, and among
        # themselves at least as many of the cheapest pair of all.
        missing = size - members.shape[1]
        if missing:
            later = np.arange(len(self.order))[None, :] >= first[:, None]
            to_subset = sum(self._pair_with_free[column] for column in members.T)
            sums = np.where(later, to_subset, np.inf)
            least += np.partition(sums, missing - 1, axis=1)[:, :missing].sum(axis=1)
        if missing > 1:
            least += 0.5 * missing * (missing - 1) * self._cheapest_pair
        return np.asarray(least / (0.5 * size * (size - 1)))

    def first_bound(
        self, members: Int64Array, missing: int, *, coverage_known: bool
    ) -> Float64Array:
        """Largest first objective of any completion, [B]: that of its best mean and coverage."""
        evaluator = self.evaluator
        if evaluator.tables.whole is not None:
            # No bound known: the second objective alone prunes.
            return np.full(len(members), np.inf)
        linear = evaluator.linear[members].sum(axis=1)
        shares = evaluator.shares[members].sum(axis=1)
        # The largest mean takes the densest members; those above the mean count most at the
        # largest share, the others least at the smallest.
        mean = np.full(len(members), -np.inf)
        share = evaluator.shares[self.order] if missing else np.ones(1)
        densest = np.sort(evaluator.tables.linear[self.order])[::-1][:missing]
        for many in range(missing + 1):
            weight = np.where(np.arange(missing) < many, share.max(), share.min())
            mean = np.maximum(mean, (linear + weight @ densest) / (shares + weight.sum()))
        coverage = np.ones(len(members))
        if coverage_known:
            union = np.bitwise_or.reduce(evaluator.words[members], axis=1)
            covered = np.bitwise_count(union).sum(axis=1) + self._gains(union, missing)
            coverage = np.minimum(1.0, covered / evaluator.points)
        return evaluator.tables.combine(mean, coverage)

    def _gains(self, union: UInt64Array, missing: int) -> Int64Array:
        """Most points that ``missing`` members can add to each union."""
        # Each counts what it would add alone: together they add less, so the sum is a bound.
        if missing == 0:
            return np.zeros(len(union), np.int64)
        words = self.evaluator.words[self.order]
        gains = np.empty((len(union), len(words)), np.int64)
        step = max(1, BLOCK_BYTES // (8 * words.size))
        for start in range(0, len(union), step):
            outside = ~union[start : start + step]
            gains[start : start + step] = np.bitwise_count(outside[:, None, :] & words).sum(axis=2)
        gains.partition(len(words) - missing, axis=1)
        return np.asarray(gains[:, len(words) - missing :].sum(axis=1))
