"""Pareto local search: pairs, scalarised greedy extension, flips and swaps, kicks.

The archive of non-dominated subsets is unbounded; every subset that enters it is explored once
(all additions, removals and swaps). When nothing is left to explore, a kick perturbs a random
front point and walks downhill on a random weighting of both objectives, offering all it meets.
Source: Pareto local search, Paquete, Chiarandini & Stützle 2004; kicks as in iterated local search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ensgan.search.masks import BoolArray
from ensgan.search.run import SearchRun
from ensgan.search.values import Neighbourhood
from ensgan.types import Float64Array, Int64Array

_GREEDY_WEIGHTS = 3
_PAIR_BLOCK = 1 << 15
_FEW_MEMBERS = 13  # up to so many free members every subset is evaluated
_KICK_MOVES = (2, 5)
_PATIENCE = 100  # kicks in a row that find nothing, when no budget is set


class LocalSearch:
    """The search in small steps, so that others can drive it between their own trials.

    Args:
        run: the ledger to write to.
        starts: subsets to begin from besides pairs, e.g. another front's.
    """

    def __init__(self, run: SearchRun, starts: Sequence[Sequence[int]] = ()) -> None:
        self.run = run
        self.fruitless = 0
        self.complete = False
        self._explored: set[tuple[int, ...]] = set()
        self._opening = self._open(starts)
        self._opened = False

    def step(self) -> None:
        """One block of pairs, one neighbourhood or one kick; nothing once ``complete``."""
        if self.complete:
            return
        if not self._opened:
            if next(self._opening, None) is not None:
                return
            self._opened = True
        members = self._most_promising()
        if members is None:
            self._kick()
        else:
            self._explored.add(members)
            self.run.offer_neighbourhood(members)

    def _most_promising(self) -> tuple[int, ...] | None:
        """The unexplored front point at the widest step of the front; None when all are done."""
        archive = self.run.archive
        waiting = [i for i, subset in enumerate(archive.members) if subset not in self._explored]
        if not waiting:
            return None
        return archive.members[waiting[int(np.argmax(archive.steps()[waiting]))]]

    def _open(self, starts: Sequence[Sequence[int]]) -> Iterator[bool]:
        if starts:
            self.run.offer(self.run.evaluator.subsets(starts))
            yield True
        free = self.run.constraints.free
        if len(free) <= _FEW_MEMBERS and (self.run.left or 1 << len(free)) >= 1 << len(free):
            self._enumerate(free)
            return
        if len(self.run.constraints.required) == 0 and self.run.constraints.min_size == 2:
            yield from self._pairs()
        for weight in np.linspace(0.02, 0.98, _GREEDY_WEIGHTS):
            yield from self._greedy(float(weight))

    def _enumerate(self, free: Int64Array) -> None:
        codes = np.arange(1 << len(free))
        subsets = np.zeros((len(codes), len(self.run.evaluator)), bool)
        subsets[:, free] = codes[:, None] >> np.arange(len(free)) & 1
        subsets[:, self.run.constraints.required] = True
        self.run.offer(subsets[self.run.constraints.feasible(subsets)])
        self.complete = True

    def _pairs(self) -> Iterator[bool]:
        allowed = np.flatnonzero(self.run.constraints.allowed)
        first, second = np.triu_indices(len(allowed), 1)
        if self.run.left is not None and len(first) > self.run.left // 2:
            few = self.run.random.choice(len(first), max(1, self.run.left // 2), replace=False)
            first, second = first[few], second[few]
        for start in range(0, len(first), _PAIR_BLOCK):
            block = slice(start, start + _PAIR_BLOCK)
            self.run.offer_pairs(allowed[first[block]], allowed[second[block]])
            yield True

    def _greedy(self, weight: float) -> Iterator[bool]:
        """Add the member that is best on the weighted sum until two additions in a row lose."""
        constraints = self.run.constraints
        members = self._greedy_start(weight)
        best, lost = -np.inf, 0
        while lost < 2 and len(members) < constraints.max_size:
            near, fits, _ = self.run.offer_neighbourhood(members, additions_only=True)
            room = fits[0]
            if len(members) + 1 < constraints.min_size:
                room = self._room(near)
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
        required = tuple(self.run.constraints.required.tolist())
        if required:
            return required
        if len(self.run.archive):
            score = weight * self.run.archive.intra - (1 - weight) * self.run.archive.inter
            return self.run.archive.members[int(np.argmax(score))]
        allowed = np.flatnonzero(self.run.constraints.allowed)
        return (int(self.run.random.choice(allowed)),)

    def _room(self, near: Neighbourhood) -> BoolArray:
        """Additions that keep GAN and cost limits while the subset is still too small."""
        constraints = self.run.constraints
        grown = np.zeros((len(near.added) + 1, len(self.run.evaluator)), bool)
        grown[:, list(near.members)] = True
        grown[np.arange(1, len(grown)), near.added] = True
        return constraints.within_limits(grown)

    def _kick(self) -> None:
        run = self.run
        before = run.archive.entries
        weight = float(run.random.uniform(0.0, 1.0))
        members = self.perturbed()
        best = -np.inf
        while not run.finished:
            near, fits, _ = run.offer_neighbourhood(members)
            score = np.where(fits, _weighted(near, weight), -np.inf)
            row, column = divmod(int(np.argmax(score)), score.shape[1])
            if score[row, column] <= best + 1e-12:
                break
            best = float(score[row, column])
            members = near.subset(row, column)
        self.fruitless = 0 if run.archive.entries > before else self.fruitless + 1

    def perturbed(self) -> tuple[int, ...]:
        """A front point (any subset while there is none) after a few random moves."""
        run = self.run
        allowed: Int64Array = np.flatnonzero(run.constraints.allowed)
        members = list(run.constraints.required)
        if len(run.archive):
            members = list(run.archive.members[int(run.random.integers(len(run.archive)))])
        while len(members) < run.constraints.min_size:
            outside = np.setdiff1d(allowed, members)
            members.append(int(run.random.choice(outside)))
        for _ in range(int(run.random.integers(*_KICK_MOVES))):
            inside = np.array(sorted(members), np.int64)
            outside = run.constraints.outside(inside)
            moves = np.flatnonzero(run.constraints.moves(inside, outside))
            if len(moves) == 0:
                break
            row, column = divmod(int(run.random.choice(moves)), len(outside) + 1)
            if row:
                members.remove(int(inside[row - 1]))
            if column:
                members.append(int(outside[column - 1]))
        return tuple(sorted(int(m) for m in members))


def _weighted(near: Neighbourhood, weight: float) -> Float64Array:
    # Subsets without a pair have Inter-d nan; no constraint allows them, so any score will do.
    score: Float64Array = weight * near.values.intra_d - (1 - weight) * near.values.inter_d
    return score


def pareto_local(run: SearchRun, starts: Sequence[Sequence[int]] = ()) -> None:
    """Search until the budget ends; without one, until 100 kicks in a row find nothing."""
    search = LocalSearch(run, starts)
    bounded = run.limit_trials is not None or run.limit_seconds is not None
    while not run.finished and not search.complete and (bounded or search.fruitless < _PATIENCE):
        search.step()
