"""Pareto local search: pairs, scalarised greedy extension, flips and swaps, kicks.

The archive of non-dominated subsets is unbounded; every subset that enters it is explored once
(all additions, removals and swaps). When nothing is left to explore, a kick perturbs a random
front point and walks downhill on a random weighting of both objectives, offering all it meets.
Source: Pareto local search, Paquete, Chiarandini & Stützle 2004; kicks as in iterated local search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ensgan.search.ledger import SearchLedger
from ensgan.search.sampler import SamplerInputs
from ensgan.search.tables import Neighbourhood
from ensgan.types import Float64Array, Int64Array

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
        subsets = np.zeros((len(codes), len(ledger.evaluator)), bool)
        subsets[:, free] = codes[:, None] >> np.arange(len(free)) & 1
        subsets[:, ledger.constraints.required] = True
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
