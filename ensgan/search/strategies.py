"""The search strategies by name, and the one function that runs any of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from ensgan.errors import InputError, unknown_name
from ensgan.search.constraints import Constraints
from ensgan.search.evaluator import Evaluator
from ensgan.search.objectives import pool_key
from ensgan.search.options import SearchOptions
from ensgan.search.run import SearchRun
from ensgan.search.select import check_pool
from ensgan.search.third import third_objective
from ensgan.types import Front, PoolScores

_ENUMERABLE = 20


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C during a search; the front found so far is in ``front`` (it may be empty)."""

    def __init__(self, front: Front) -> None:
        super().__init__("the search was interrupted")
        self.front = front


@dataclass(frozen=True)
class StrategyOptions:
    """What a strategy may use beside its run.

    Attributes:
        starts: subsets to begin with (a warm start or a resumed front).
        study_storage: where Optuna keeps its trials; None is memory.
        study_name: name of that study: the same search finds its trials again.
    """

    starts: Sequence[Sequence[int]] = ()
    study_storage: str | None = None
    study_name: str = "ensgan"


Strategy: TypeAlias = Callable[[SearchRun, StrategyOptions], None]


def _load_pareto_local() -> Strategy:
    from ensgan.search.local import pareto_local

    return lambda run, options: pareto_local(run, options.starts)


def _load_exhaustive() -> Strategy:
    from ensgan.search.exhaustive import exhaustive

    return lambda run, options: exhaustive(run, options.starts)


def _load_pymoo() -> Strategy:
    from ensgan.search.pymoo import search_with_pymoo

    return lambda run, options: search_with_pymoo(run, options.starts)


def _load_optuna(sampler: str) -> Strategy:
    from ensgan.search.optuna import search_with_optuna

    return lambda run, options: search_with_optuna(
        run,
        sampler,
        starts=options.starts,
        storage=options.study_storage,
        study_name=options.study_name,
    )


@dataclass(frozen=True)
class _Row:
    """One sampler: how to load it (before the clock starts), and what it can do."""

    load: Callable[[], Strategy]
    stores_trials: bool = False
    ends_by_itself: bool = False


_SAMPLERS: dict[str, _Row] = {
    "pareto-local": _Row(_load_pareto_local, ends_by_itself=True),
    **{
        name: _Row(partial(_load_optuna, name), stores_trials=True)
        for name in ("ensemble", "nsga2", "nsga3", "tpe", "gp", "random")
    },
    "pymoo": _Row(_load_pymoo),
    "exhaustive": _Row(_load_exhaustive, ends_by_itself=True),
}


def samplers() -> tuple[str, ...]:
    """Names of the search strategies."""
    return tuple(_SAMPLERS)


def search(scores: PoolScores, **options: Any) -> Front:
    """Search the Pareto front of a scored pool: maximise Intra-d, minimise Inter-d.

    Args:
        scores: the pool.
        **options: the attributes of :class:`SearchOptions`.

    Raises:
        InputError: unknown names, an impossible constraint, a budget that is not positive,
            a front of another pool.
        DataError: scores no ensemble can be scored with.
        StoreError: the study's storage cannot be used.
        SearchInterrupted: Ctrl-C; carries the front found so far.
    """
    chosen = SearchOptions(**options)
    row = _row(chosen)
    strategy = row.load()
    return _Search(scores, chosen, row).run(strategy)


class _Search:
    """One search: its ledger, and what its strategy begins with."""

    def __init__(self, scores: PoolScores, options: SearchOptions, row: _Row) -> None:
        started = time.perf_counter()
        self._options = options
        self._key = pool_key(scores)
        if options.resume is not None:
            check_pool(options.resume, scores)
        evaluator = Evaluator(
            options.objectives or scores, inter=options.inter, kernel=options.kernel
        )
        if evaluator.names != scores.names:
            raise InputError("the objectives are of other members than the scores")
        constraints = options.constraints(scores.names)
        _check_end(options, constraints)
        self._run = SearchRun(
            evaluator,
            constraints,
            seed=options.seed,
            trials=options.trials_of(ends_by_itself=row.ends_by_itself),
            seconds=options.seconds,
            on_progress=options.on_progress,
            started=started,
            third=third_objective(scores, options.third, options.costs),
        )

    def run(self, strategy: Strategy) -> Front:
        """Search until the budget ends."""
        options, run = self._options, self._run
        extra = StrategyOptions(self._starts(), options.study_storage, self._study_name())
        try:
            strategy(run, extra)
        except KeyboardInterrupt:
            raise SearchInterrupted(self._finish()) from None
        front = self._finish()
        if run.trials == 0:
            raise InputError(
                f"the budget of {options.seconds} s ended before the first trial: allow more"
            )
        if len(front) == 0:
            raise InputError(
                f"{options.sampler} met no ensemble that satisfies the constraints in "
                f"{run.trials} trials: loosen them or use pareto-local"
            )
        return front

    def _finish(self) -> Front:
        if self._options.record is not None:
            self._run.write_record(self._options.record)
        return self._run.front(self._options.sampler, self._key)

    def _study_name(self) -> str:
        """The same search finds its trials again, another one does not."""
        options = self._options
        first = self._run.evaluator.objectives[0].partition(":")[0]
        form = options.inter if first == "intra_d" else first
        third = "" if options.third is None else f"-{options.third}"
        return f"ensgan-{options.sampler}-{form}{third}-{options.seed}-{self._key}"

    def _starts(self) -> list[tuple[int, ...]]:
        run, resume = self._run, self._options.resume
        starts = []
        if resume is not None:
            starts = [run.evaluator.indices(point.members) for point in resume]
        if self._options.warm_start:
            from ensgan.search.local import pareto_local

            warm = SearchRun(run.evaluator, run.constraints, seed=run.seed, third=run.third)
            pareto_local(warm)
            starts += warm.archive.members
        return starts


def _row(options: SearchOptions) -> _Row:
    if options.sampler not in _SAMPLERS:
        raise InputError(unknown_name("sampler", options.sampler, _SAMPLERS))
    row = _SAMPLERS[options.sampler]
    if options.study_storage is not None and not row.stores_trials:
        raise InputError(
            f"sampler '{options.sampler}' keeps no Optuna study: leave the storage out"
        )
    return row


def _check_end(options: SearchOptions, constraints: Constraints) -> None:
    """An enumeration without any budget must be small."""
    bounded = options.trials is not None or options.seconds is not None
    if bounded or options.max_size is not None or options.sampler != "exhaustive":
        return
    if len(constraints.free) > _ENUMERABLE:
        raise InputError(
            f"exhaustive search over all sizes of {len(constraints.free)} members does not end: "
            "give max_size, trials or seconds"
        )
