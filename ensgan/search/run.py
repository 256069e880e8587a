"""The ledger of one search: what was evaluated, the front so far, when to stop."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ensgan.files import atomic_path
from ensgan.search.constraints import Constraints
from ensgan.search.cost_archive import CostArchive
from ensgan.search.distinct import DistinctCounter
from ensgan.search.evaluator import Evaluator
from ensgan.search.masks import BoolArray, UInt64Array
from ensgan.search.pareto import REFERENCE_INTER, REFERENCE_INTRA, Archive
from ensgan.search.values import Neighbourhood, Values
from ensgan.types import Float64Array, Front, FrontPoint, Int64Array

ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total): evaluations, or milliseconds when only time is limited."""

_HISTORY_SECONDS = 0.005
_HISTORY_PAUSE = 20
"""Between two entries at least so many times what the last one took: a volume of three is slow."""


@dataclass(frozen=True)
class ThirdObjective:
    """A sum over the members to keep small: ``costs`` float64 [M] ≥ 0, counted in ``unit``."""

    costs: Float64Array
    unit: str


class SearchRun:
    """What every strategy writes to: evaluates, keeps the front, counts, tells when to stop.

    Args:
        evaluator: the exact objectives.
        constraints: which subsets count.
        seed: seed of the strategy's generator ``random``.
        trials, seconds: the budget; None is no limit.
        on_progress: told about progress, if given.
        started: ``time.perf_counter()`` at the start; None for now.
        third: a third objective, minimised: the summed cost of the members; None for two.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        constraints: Constraints,
        *,
        seed: int = 0,
        trials: int | None = None,
        seconds: float | None = None,
        on_progress: ReportProgress | None = None,
        started: float | None = None,
        third: ThirdObjective | None = None,
    ) -> None:
        self.third = third
        self.costs = np.zeros(len(evaluator)) if third is None else third.costs
        self.evaluator = evaluator
        self.constraints = constraints
        self.seed = seed
        self.random = np.random.default_rng(seed)
        self.limit_trials = trials
        self.limit_seconds = seconds
        self.trials = 0
        most = float(self.costs.sum())
        self.reference = (REFERENCE_INTRA, REFERENCE_INTER, *(() if third is None else (most,)))
        self.archive: Archive = Archive() if third is None else CostArchive(most)
        self.label = ""  # what a strategy proves about its front
        self.rows: list[tuple[int, tuple[int, ...], float, float, float]] = []
        self.history: list[tuple[float, int, float]] = []
        self._counter = DistinctCounter(len(evaluator))
        self._on_progress = on_progress
        self._started = time.perf_counter() if started is None else started
        self._reported = 0.0
        self._next_entry = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    @property
    def left(self) -> int | None:
        """Evaluations left, None without a limit."""
        return None if self.limit_trials is None else max(0, self.limit_trials - self.trials)

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        now = self.elapsed
        if self._on_progress is not None and now - self._reported > 0.1:
            self._reported = now
            if self.limit_trials is not None:
                self._on_progress(min(self.trials, self.limit_trials), self.limit_trials)
            elif self.limit_seconds is not None:
                total = round(1000 * self.limit_seconds)
                self._on_progress(min(round(1000 * now), total), total)
        return self.left == 0 or (self.limit_seconds is not None and now >= self.limit_seconds)

    def offer(self, subsets: BoolArray, *, keep_all: bool = False) -> Values:
        """Evaluate rows of a bool [B,M] matrix; those that meet the constraints count.

        ``keep_all`` writes every row to the record, not only those that enter the front.
        """
        values = self.evaluator(subsets)
        fits = np.flatnonzero(self.constraints.feasible(subsets))
        if self.left is not None:
            fits = fits[: self.left]
        first = self.trials
        self.trials += len(fits)
        self._counter.add(self._counter.of(subsets[fits]))
        cost = self.costs_of(subsets[fits])
        entered = self.archive.candidates(values.intra_d[fits], values.inter_d[fits], cost)
        for order in entered.tolist():
            index = int(fits[order])
            members = tuple(np.flatnonzero(subsets[index]).tolist())
            intra, inter = float(values.intra_d[index]), float(values.inter_d[index])
            self.archive.insert(intra, inter, members, float(cost[order]))
        now = self.elapsed
        for order in range(len(fits)) if keep_all else entered:
            index = int(fits[order])
            intra, inter = float(values.intra_d[index]), float(values.inter_d[index])
            members = tuple(np.flatnonzero(subsets[index]).tolist())
            self.rows.append((first + int(order), members, intra, inter, now))
        self._log(len(entered) > 0)
        return values

    def offer_pairs(self, first: Int64Array, second: Int64Array) -> None:
        """Evaluate ensembles of two; those that meet the constraints count."""
        fits = self.constraints.pairs(first, second)
        if self.left is not None:
            fits = fits[: self.left]
        first, second = first[fits], second[fits]
        values = self.evaluator.pairs(first, second)
        word = self._counter.member_hash
        self._counter.add(word[first] ^ word[second])
        cost = self.costs[first] + self.costs[second]
        entered = self.archive.candidates(values.intra_d, values.inter_d, cost)
        for index in entered:
            members = tuple(sorted((int(first[index]), int(second[index]))))
            intra, inter = float(values.intra_d[index]), float(values.inter_d[index])
            self.archive.insert(intra, inter, members, float(cost[index]))
            self.rows.append((self.trials + int(index), members, intra, inter, self.elapsed))
        self.trials += len(first)
        self._log(len(entered) > 0)

    def repeat(
        self, members: tuple[int, ...], intra: float = np.nan, inter: float = np.nan
    ) -> None:
        """Count a trial that was not evaluated: met before, or not an allowed ensemble."""
        self.rows.append((self.trials, members, intra, inter, self.elapsed))
        self.trials += 1

    def skip(self, count: int) -> None:
        """Count trials that were no allowed ensemble."""
        self.trials += count

    def offer_neighbourhood(
        self, members: Sequence[int], *, additions_only: bool = False
    ) -> tuple[Neighbourhood, BoolArray, int]:
        """Evaluate all allowed moves of ``members``.

        Returns:
            The neighbourhood, which of its entries count, and how many entered the front.
        """
        inside = np.array(sorted(members), np.int64)
        outside = self.constraints.outside(inside)
        removed: Int64Array = inside[:0] if additions_only else inside
        near = self.evaluator.neighbours(inside.tolist(), outside, removed=removed)
        fits = self.constraints.moves(inside, outside)[: len(removed) + 1]
        fits[0, 0] = False  # the subset itself is no move
        entered = self._offer_moves(near, fits)
        return near, fits, entered

    def _offer_moves(self, near: Neighbourhood, fits: BoolArray) -> int:
        chosen = np.flatnonzero(fits)
        if self.left is not None and len(chosen) > self.left:
            chosen = np.sort(self.random.choice(chosen, self.left, replace=False))
        first = self.trials
        self.trials += len(chosen)
        self._counter.add(self._move_hashes(near).ravel()[chosen])
        intra, inter = near.values.intra_d.ravel(), near.values.inter_d.ravel()
        cost = self.move_costs(near).ravel()[chosen]
        entered = self.archive.candidates(intra[chosen], inter[chosen], cost)
        columns = fits.shape[1]
        for order in entered:
            index = int(chosen[order])
            subset = near.subset(*divmod(index, columns))
            self.archive.insert(
                float(intra[index]), float(inter[index]), subset, float(cost[order])
            )
            self.rows.append(
                (first + int(order), subset, float(intra[index]), float(inter[index]), self.elapsed)
            )
        self._log(len(entered) > 0)
        return len(entered)

    def _move_hashes(self, near: Neighbourhood) -> UInt64Array:
        word = self._counter.member_hash
        whole = np.bitwise_xor.reduce(word[list(near.members)])
        lost = np.concatenate((np.zeros(1, np.uint64), word[near.removed]))
        gained = np.concatenate((np.zeros(1, np.uint64), word[near.added]))
        hashes: UInt64Array = (lost ^ whole)[:, None] ^ gained
        return hashes

    def costs_of(self, subsets: BoolArray) -> Float64Array:
        """The third objective of rows of a bool [B,M] matrix; 0 where there is none."""
        costs: Float64Array = subsets @ self.costs
        return costs

    def move_costs(self, near: Neighbourhood) -> Float64Array:
        """The third objective of every entry of a neighbourhood."""
        cost = self.costs
        lost = np.concatenate(([0.0], cost[near.removed]))
        gained = np.concatenate(([0.0], cost[near.added]))
        costs: Float64Array = (cost[list(near.members)].sum() - lost)[:, None] + gained
        return costs

    def _log(self, changed: bool) -> None:
        now = self.elapsed
        if changed and now >= self._next_entry:
            self.history.append((now, self.trials, self.archive.hypervolume()))
            pause = max(_HISTORY_SECONDS, _HISTORY_PAUSE * (self.elapsed - now))
            self._next_entry = now + pause

    def front(self, sampler: str, pool: str) -> Front:
        """The result so far."""
        seconds = self.elapsed
        volume = self.archive.hypervolume()
        return Front(
            objectives=(
                *self.evaluator.objectives,
                *(() if self.third is None else (f"{self.third.unit}:min",)),
            ),
            sampler=sampler + self.label,
            seed=self.seed,
            trials=self.trials,
            distinct=self._counter.total(),
            seconds=seconds,
            hypervolume=volume,
            points=self._points(),
            pool=pool,
            history=(*_thinned(self.history), (seconds, self.trials, volume)),
            reference=self.reference,
        )

    def _points(self) -> tuple[FrontPoint, ...]:
        if not len(self.archive):
            return ()
        # Evaluated once more from scratch: incremental sums differ in the last bits.
        values = self.evaluator(self.evaluator.subsets(self.archive.members))
        names = self.evaluator.names
        describe = self.evaluator.tables.describe
        columns = np.array(
            (values.intra_d, values.inter_d, values.density, values.coverage), np.float64
        )
        more = {} if describe is None else dict(describe(columns))
        if self.third is not None:
            more[self.third.unit] = self.costs_of(self.evaluator.subsets(self.archive.members))
        points = [
            FrontPoint(
                tuple(names[m] for m in members),
                float(values.intra_d[i]),
                float(values.inter_d[i]),
                float(values.density[i]),
                float(values.coverage[i]),
                measures=tuple((name, float(column[i])) for name, column in more.items()),
            )
            for i, members in enumerate(self.archive.members)
        ]
        return tuple(sorted(points, key=lambda point: (-point.intra_d, point.inter_d)))

    def write_record(self, path: Path) -> None:
        """Write the recorded trials as CSV: number, members, intra_d, inter_d, seconds.

        A third objective follows as a last column.
        """
        names = self.evaluator.names
        unit = () if self.third is None else (self.third.unit,)
        with atomic_path(path) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("number", "members", "intra_d", "inter_d", "seconds", *unit))
            for number, members, intra, inter, seconds in self.rows:
                chosen = " ".join(names[m] for m in members)
                third = [repr(float(self.costs[list(members)].sum()))] if unit else []
                writer.writerow(
                    (number, chosen, repr(intra), repr(inter), f"{seconds:.6f}", *third)
                )


def _thinned(
    history: list[tuple[float, int, float]], most: int = 200
) -> list[tuple[float, int, float]]:
    if len(history) <= most:
        return history
    chosen: npt.NDArray[np.int64] | Int64Array = np.unique(
        np.linspace(0, len(history) - 1, most).astype(np.int64)
    )
    return [history[int(i)] for i in chosen]
