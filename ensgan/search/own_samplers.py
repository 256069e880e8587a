"""The samplers that are our own: Pareto local search, and every ensemble up to a size.

Local search: pairs, scalarised greedy extension, flips and swaps, kicks. The archive of
non-dominated subsets is unbounded; every subset that enters it is explored once (all additions,
removals and swaps). When nothing is left to explore, a kick perturbs a random front point and walks
downhill on a random weighting of both objectives, offering all it meets. Source: Pareto local
search, Paquete, Chiarandini & Stützle 2004; kicks as in iterated local search.

Exhaustive search proves the front of small ensembles by an exact bound. Partial subsets are
extended in pool order. One is dropped when no completion to the size in hand can enter the front:
its second objective is at least the pairs it has plus the cheapest pairs it must still take in (a
third objective likewise), its first at most what the best means and the largest gains in coverage
allow (gains only shrink as a union grows).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ensgan.search.ledger import SearchLedger
from ensgan.search.pareto import TIE
from ensgan.search.sampler import SamplerInputs
from ensgan.search.tables import BLOCK_BYTES, Neighbourhood, UInt64Array
from ensgan.types import BoolArray, Float64Array, Int64Array

_GREEDY_WEIGHTS = 3
_PAIR_BLOCK = 1 << 15
_FEW_MEMBERS = 13  # up to so many free members every subset is evaluated
_KICK_MOVES = (2, 5)
PATIENCE = 100
"""Kicks in a row that find nothing, after which a search without a budget ends."""


class LocalSearch:
    """The search in small steps, so that others can drive it between their own trials.

    Args:
        ledger: what to write to.
        starts: subsets to begin from besides pairs, e.g. another front's.
    """

    def __init__(self, ledger: SearchLedger, starts: Sequence[Sequence[int]] = ()) -> None:
        self.ledger = ledger
        self.fruitless = 0
        self.complete = False
        self._explored: set[tuple[int, ...]] = set()
        self._opening = self._open(starts)

    def step(self) -> None:
        """One block of pairs, one neighbourhood or one kick; nothing once ``complete``."""
        if self.complete:
            return
        if next(self._opening, False):
            return
        members = self._most_promising()
        if members is None:
            self._kick()
        else:
            self._explored.add(members)
            self.ledger.offer_moves(members)

    def _most_promising(self) -> tuple[int, ...] | None:
        """The unexplored front point at the widest step of the front; None when all are done."""
        archive = self.ledger.archive
        waiting = [i for i, subset in enumerate(archive.members) if subset not in self._explored]
        if not waiting:
            return None
        # Beside a wide step there is most hypervolume to be won.
        return archive.members[waiting[int(np.argmax(archive.steps()[waiting]))]]

    def _open(self, starts: Sequence[Sequence[int]]) -> Iterator[bool]:
        ledger = self.ledger
        if starts:
            ledger.offer(ledger.evaluator.subsets(starts))
            yield True
        free = ledger.constraints.free
        if len(free) <= _FEW_MEMBERS and (ledger.left or 1 << len(free)) >= 1 << len(free):
            self._enumerate(free)
            return
        if len(ledger.constraints.required) == 0 and ledger.constraints.min_size == 2:
            yield from self._pairs()
        # Not 0 and 1, where one of the two objectives would not count at all.
        for weight in np.linspace(0.02, 0.98, _GREEDY_WEIGHTS):
            yield from self._greedy(float(weight))

    def _enumerate(self, free: Int64Array) -> None:
        ledger = self.ledger
        codes = np.arange(1 << len(free))
        subsets = ledger.constraints.whole((codes[:, None] >> np.arange(len(free)) & 1) > 0)
        ledger.offer(subsets[ledger.constraints.feasible(subsets)])
        self.complete = True

    def _pairs(self) -> Iterator[bool]:
        """Every ensemble of two, or as many at random as half the budget allows."""
        ledger = self.ledger
        allowed = np.flatnonzero(ledger.constraints.allowed)
        one, other = np.triu_indices(len(allowed), 1)
        if ledger.left is not None and len(one) > ledger.left // 2:
            few = np.sort(ledger.random.choice(len(one), max(1, ledger.left // 2), replace=False))
            one, other = one[few], other[few]
        for start in range(0, len(one), _PAIR_BLOCK):
            block = slice(start, start + _PAIR_BLOCK)
            ledger.offer_pairs(allowed[one[block]], allowed[other[block]])
            yield True

    def _greedy(self, weight: float) -> Iterator[bool]:
        """Add the member that is best on the weighted sum until two additions in a row lose."""
        constraints = self.ledger.constraints
        members = self._greedy_start(weight)
        best, lost = -np.inf, 0
        while lost < 2 and len(members) < constraints.max_size:
            near, fits = self.ledger.offer_moves(members, additions_only=True)
            room = fits[0]
            if len(members) + 1 < constraints.min_size:
                inside = np.array(near.members, np.int64)
                room = constraints.moves(inside, near.added, growing=True)[0]
            room[0] = False
            if not room.any():
                return
            score = _weighted(near, weight)[0]
            column = int(np.argmax(np.where(room, score, -np.inf)))
            members = near.subset(0, column)
            small = len(members) < constraints.min_size
            lost = 0 if small or score[column] > best else lost + 1
            best = max(best, float(score[column])) if not small else best
            yield True

    def _greedy_start(self, weight: float) -> tuple[int, ...]:
        ledger, archive = self.ledger, self.ledger.archive
        required = tuple(ledger.constraints.required.tolist())
        if required:
            return required
        if len(archive):
            score = weight * archive.first - (1 - weight) * archive.second
            return archive.members[int(np.argmax(score))]
        allowed = np.flatnonzero(ledger.constraints.allowed)
        return (int(ledger.random.choice(allowed)),)

    def _kick(self) -> None:
        ledger = self.ledger
        before = ledger.archive.entries
        weight = float(ledger.random.uniform(0.0, 1.0))
        members = self.perturbed()
        best = -np.inf
        while not ledger.finished:
            near, fits = ledger.offer_moves(members)
            score = np.where(fits, _weighted(near, weight), -np.inf)
            row, column = divmod(int(np.argmax(score)), score.shape[1])
            # Sums that are changed move by move differ in the last bits: without a margin this
            # could go in circles.
            if score[row, column] <= best + 1e-12:
                break
            best = float(score[row, column])
            members = near.subset(row, column)
        self.fruitless = 0 if ledger.archive.entries > before else self.fruitless + 1

    def perturbed(self) -> tuple[int, ...]:
        """A front point (any subset while there is none) after a few random moves."""
        ledger = self.ledger
        allowed: Int64Array = np.flatnonzero(ledger.constraints.allowed)
        members = list(ledger.constraints.required)
        if len(ledger.archive):
            members = list(ledger.archive.members[int(ledger.random.integers(len(ledger.archive)))])
        while len(members) < ledger.constraints.min_size:
            outside = np.setdiff1d(allowed, members)
            members.append(int(ledger.random.choice(outside)))
        for _ in range(int(ledger.random.integers(*_KICK_MOVES))):
            inside = np.array(sorted(members), np.int64)
            outside = ledger.constraints.outside(inside)
            moves = np.flatnonzero(ledger.constraints.moves(inside, outside))
            if len(moves) == 0:
                break
            row, column = divmod(int(ledger.random.choice(moves)), len(outside) + 1)
            if row:
                members.remove(int(inside[row - 1]))
            if column:
                members.append(int(outside[column - 1]))
        return tuple(sorted(int(m) for m in members))


def _weighted(near: Neighbourhood, weight: float) -> Float64Array:
    # Without a pair the second objective is nan; no constraint allows such subsets, so any score
    # will do.
    return weight * near.values.first - (1 - weight) * near.values.second


def pareto_local(ledger: SearchLedger, inputs: SamplerInputs) -> None:
    """Search until the budget ends; without one, until 100 kicks in a row find nothing."""
    search = LocalSearch(ledger, inputs.starts)
    while not (ledger.finished or search.complete):
        if not ledger.bounded and search.fruitless >= PATIENCE:
            return
        search.step()


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
