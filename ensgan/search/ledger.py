"""The ledger of one search: what was evaluated, the front so far, when to stop."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ensgan.errors import InputError
from ensgan.files import atomic_path
from ensgan.search.constraints import Constraints
from ensgan.search.evaluator import Evaluator
from ensgan.search.pareto import REFERENCE_FIRST, REFERENCE_SECOND, Archive, CostArchive
from ensgan.search.tables import (
    DistinctCounter,
    Neighbourhood,
    ThirdObjective,
    UInt64Array,
    Values,
    exchanged,
)
from ensgan.text import spreadsheet_cell
from ensgan.types import (
    BoolArray,
    Float64Array,
    Front,
    FrontPoint,
    Int64Array,
    Objective,
    read_objective,
)
from ensgan.types.names import form_of, needs_reading

ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total): evaluations, or milliseconds when only time is limited."""

Trial: TypeAlias = tuple[int, tuple[int, ...], float, float, float]
"""Number, members, objectives (nan for what is no ensemble) and seconds of an evaluation."""

_HISTORY_ENTRIES = 200
_HISTORY_SECONDS = 0.005
_HISTORY_PAUSE = 20
"""Between two entries at least so many times what the last one took: a volume of three is slow."""
_REPORT_SECONDS = 0.1


@dataclass
class SearchLedger:
    """What every sampler writes to: evaluates, keeps the front, counts, tells when to stop.

    Attributes:
        evaluator: the exact objectives.
        constraints: which subsets count.
        seed: seed of the sampler's generator ``random``.
        limit_trials, limit_seconds: the budget; None is no limit.
        on_progress: called with the progress, if given.
        started: ``time.perf_counter()`` at the start.
        third: a third objective, minimised: the summed cost of the members; None for two.
        trials: evaluations so far.
        archive: the front so far.
        proven: what a sampler proves about its front, e.g. ``:2-4``.
        record: the recorded trials.
        history: (seconds, evaluations, hypervolume) when the front changed.

    Raises:
        InputError: a negative seed, or a budget that is not positive.
    """

    evaluator: Evaluator
    constraints: Constraints
    seed: int = 0
    limit_trials: int | None = None
    limit_seconds: float | None = None
    on_progress: ReportProgress | None = None
    started: float = field(default_factory=time.perf_counter)
    third: ThirdObjective | None = None
    trials: int = field(default=0, init=False)
    proven: str = field(default="", init=False)
    record: list[Trial] = field(default_factory=list, init=False)
    history: list[tuple[float, int, float]] = field(default_factory=list, init=False)
    _begun: bool = field(default=False, init=False)
    _reported: float = field(default=0.0, init=False)
    _next_entry: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed {self.seed}: must not be negative")
        if self.limit_trials is not None and self.limit_trials < 1:
            raise InputError(f"trials {self.limit_trials}: at least 1")
        if self.limit_seconds is not None and not 0 < self.limit_seconds < math.inf:
            raise InputError(f"seconds {self.limit_seconds}: must be above 0 and finite")
        self.random = np.random.default_rng(self.seed)
        self._counter = DistinctCounter(len(self.evaluator))
        self.costs = np.zeros(len(self.evaluator)) if self.third is None else self.third.costs
        most = float(self.costs.sum())
        self.archive = Archive() if self.third is None else CostArchive(most)
        self.reference = (REFERENCE_FIRST, REFERENCE_SECOND, most)[: 2 if self.third is None else 3]

    @property
    def bounded(self) -> bool:
        """Whether there is a budget at all."""
        return self.limit_trials is not None or self.limit_seconds is not None

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    @property
    def left(self) -> int | None:
        """Evaluations left, None without a limit."""
        return None if self.limit_trials is None else max(0, self.limit_trials - self.trials)

    @property
    def finished(self) -> bool:
        """Whether the budget is spent; never before the first evaluations."""
        # Of a very large pool the tables alone can take the whole time: some front is worth more
        # than none.
        out_of_time = self.limit_seconds is not None and self.elapsed >= self.limit_seconds
        return self.left == 0 or (out_of_time and self._begun)

    def offer(self, subsets: BoolArray, *, record_all: bool = False) -> Values:
        """Evaluate rows of a bool [B,M] matrix; those that meet the constraints count.

        ``record_all`` records every row, not only those that enter the front.
        """
        values = self.evaluator(subsets)
        fits = np.flatnonzero(self.constraints.feasible(subsets))
        if self.left is not None:  # never more than the budget, so that samplers can be compared
            fits = fits[: self.left]
        self._enter(
            values.first[fits],
            values.second[fits],
            self.costs_of(subsets[fits]),
            self._counter.of(subsets[fits]),
            lambda order: tuple(np.flatnonzero(subsets[fits[order]]).tolist()),
            record_all=record_all,
        )
        return values

    def offer_pairs(self, one: Int64Array, other: Int64Array) -> None:
        """Evaluate the allowed ones of the ensembles {one[i], other[i]}, ``one`` the lower."""
        fits = np.flatnonzero(self.constraints.pairs(one, other))[: self.left]
        one, other = one[fits], other[fits]
        values, word = self.evaluator.pairs(one, other), self._counter.member_hash
        self._enter(
            values.first,
            values.second,
            self.costs[one] + self.costs[other],
            word[one] ^ word[other],
            lambda order: (int(one[order]), int(other[order])),
        )

    def offer_moves(
        self, members: Sequence[int], *, additions_only: bool = False
    ) -> tuple[Neighbourhood, BoolArray]:
        """Evaluate all allowed moves of ``members``.

        Args:
            members: the subset; it need not meet the constraints itself.
            additions_only: leave removals and swaps out.

        Returns:
            The neighbourhood, and which of its entries count.
        """
        inside = np.array(sorted(members), np.int64)
        outside = self.constraints.outside(inside)
        near = self.evaluator.moves(inside.tolist(), outside, additions_only=additions_only)
        fits = self.constraints.moves(inside, outside)[: len(near.removed) + 1]
        fits[0, 0] = False  # the subset itself is no move
        chosen = np.flatnonzero(fits)
        if self.left is not None and len(chosen) > self.left:
            # The last moves of a budget are drawn: the first in pool order would favour members.
            chosen = np.sort(self.random.choice(chosen, self.left, replace=False))
        self._enter(
            near.values.first.ravel()[chosen],
            near.values.second.ravel()[chosen],
            self.move_costs(near).ravel()[chosen],
            self._move_hashes(near).ravel()[chosen],
            lambda order: near.subset(*divmod(int(chosen[order]), fits.shape[1])),
        )
        return near, fits

    def _enter(
        self,
        first: Float64Array,
        second: Float64Array,
        cost: Float64Array,
        hashes: UInt64Array,
        members_of: Callable[[int], tuple[int, ...]],
        *,
        record_all: bool = False,
    ) -> None:
        """Count evaluated subsets and put those that no other beats into the archive."""
        before = self.trials
        self.trials += len(first)
        self._counter.add(hashes)
        # One look at the whole batch: nearly all of it is dominated and never becomes a subset.
        entered = self.archive.candidates(first, second, cost).tolist()
        for order in entered:
            values = float(first[order]), float(second[order])
            self.archive.insert(*values, members_of(order), float(cost[order]))
        now = self.elapsed
        for order in range(len(first)) if record_all else entered:
            values = float(first[order]), float(second[order])
            self.record.append((before + order, members_of(order), *values, now))
        self._note(changed=bool(entered))

    def repeat(
        self, members: tuple[int, ...], first: float = np.nan, second: float = np.nan
    ) -> None:
        """Count a trial that was not evaluated: met before, or not an allowed ensemble."""
        self.record.append((self.trials, members, first, second, self.elapsed))
        self.skip(1)

    def skip(self, count: int) -> None:
        """Count trials that were no allowed ensemble."""
        self.trials += count
        self._note(changed=False)

    def costs_of(self, subsets: BoolArray) -> Float64Array:
        """The third objective of rows of a bool [B,M] matrix; 0 where there is none."""
        return np.asarray(subsets @ self.costs)

    def move_costs(self, near: Neighbourhood) -> Float64Array:
        """The third objective of every entry of a neighbourhood."""
        if self.third is None:
            return np.zeros(near.values.first.shape)
        return exchanged(self.costs, np.array(near.members, np.int64), near.removed, near.added)

    def _move_hashes(self, near: Neighbourhood) -> UInt64Array:
        word, nothing = self._counter.member_hash, np.zeros(1, np.uint64)
        whole = np.bitwise_xor.reduce(word[list(near.members)], initial=np.uint64(0))
        without = whole ^ np.concatenate((nothing, word[near.removed]))
        return np.asarray(without[:, None] ^ np.concatenate((nothing, word[near.added])))

    def _note(self, *, changed: bool) -> None:
        """Add to the history when the front changed, and report progress when it is time."""
        self._begun = True
        now = self.elapsed
        if changed and now >= self._next_entry:
            self.history.append((now, self.trials, self.archive.hypervolume()))
            pause = max(_HISTORY_SECONDS, _HISTORY_PAUSE * (self.elapsed - now))
            self._next_entry = now + pause
        if self.on_progress is None or now - self._reported <= _REPORT_SECONDS:
            return
        self._reported = now
        if self.limit_trials is not None:
            self.on_progress(min(self.trials, self.limit_trials), self.limit_trials)
        elif self.limit_seconds is not None:
            total = round(1000 * self.limit_seconds)
            self.on_progress(min(round(1000 * now), total), total)

    def front(self, sampler: str, pool: str) -> Front:
        """The result so far."""
        seconds, volume = self.elapsed, self.archive.hypervolume()
        axes: list[Objective] = [*self.evaluator.tables.axes]
        if self.third is not None:
            axes.append(read_objective(f"{self.third.unit}:min", maximise=False))
        texts, form = tuple(axis.text for axis in axes), self.evaluator.tables.form
        unknown = any(needs_reading(axis) for axis in axes)
        entries = len(self.history)
        kept = np.linspace(0, entries - 1, min(entries, _HISTORY_ENTRIES)).astype(int)
        return Front(
            objectives=texts,
            sampler=sampler + self.proven,
            seed=self.seed,
            trials=self.trials,
            distinct=self._counter.total(),
            seconds=seconds,
            hypervolume=volume,
            points=self._points(),
            pool=pool,
            history=(*(self.history[i] for i in kept), (seconds, self.trials, volume)),
            reference=self.reference,
            named_form="" if form_of(texts) == form else form,
            readings=tuple((axis.name, axis.meaning) for axis in axes) if unknown else (),
        )

    def _points(self) -> tuple[FrontPoint, ...]:
        if not len(self.archive):
            return ()
        # Evaluated once more from scratch: sums that were changed move by move differ in the
        # last bits, and a front must not depend on the way to it.
        points: Iterable[FrontPoint] = self.evaluator.front_points(self.archive.members)
        if self.third is not None:
            costs = self.costs_of(self.evaluator.subsets(self.archive.members)).tolist()
            points = [
                replace(point, measures=(*point.measures, (self.third.unit, cost)))
                for point, cost in zip(points, costs, strict=True)
            ]
        return tuple(sorted(points, key=lambda point: (-point.first, point.second)))

    def write_record(self, path: Path) -> None:
        """Write the recorded trials as CSV: number, members, objectives, seconds.

        The objectives' columns are called as in the points of a front file; a third objective
        follows as a last column.
        """
        names = self.evaluator.names
        unit = () if self.third is None else (self.third.unit,)
        keys = FrontPoint((), 0.0, 0.0, keys=self.evaluator.tables.keys).value_keys
        with atomic_path(path) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("number", "members", *keys, "seconds", *unit))
            for number, members, first, second, seconds in self.record:
                chosen = spreadsheet_cell(" ".join(names[m] for m in members))
                third = [float(self.costs[list(members)].sum())] if unit else []
                writer.writerow((number, chosen, first, second, f"{seconds:.6f}", *third))
