"""The search strategies by name, and the one function that runs any of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from ensgan.errors import InputError, unknown_name
from ensgan.search.constraints import Budget, Constraints
from ensgan.search.evaluator import Evaluator
from ensgan.search.objectives import ObjectiveTables, pool_key
from ensgan.search.run import ReportProgress, SearchRun
from ensgan.search.select import check_pool
from ensgan.search.third import third_objective
from ensgan.types import Front, PoolScores

DEFAULT_TRIALS = 1000
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


def search(
    scores: PoolScores,
    *,
    sampler: str = "pareto-local",
    trials: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    inter: str = "symmetric",
    objectives: ObjectiveTables | None = None,
    third: str | None = None,
    costs: Mapping[str, float] | None = None,
    min_size: int = 2,
    max_size: int | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    max_per_gan: int | None = None,
    budget: Budget | None = None,
    warm_start: bool = False,
    resume: Front | None = None,
    study_storage: str | None = None,
    record: Path | None = None,
    kernel: str = "auto",
    on_progress: ReportProgress | None = None,
) -> Front:
    """Search the Pareto front of a scored pool: maximise Intra-d, minimise Inter-d.

    Args:
        scores: the pool.
        sampler: one of :func:`samplers`. ``pareto-local`` searches directly; ``ensemble`` is an
            Optuna study driven by :class:`ensgan.search.EnsembleSampler`; ``nsga2``, ``nsga3``,
            ``tpe``, ``gp`` and ``random`` are Optuna's own samplers.
        trials, seconds: the budget in evaluations and wall time. Without either, ``pareto-local``
            stops when it no longer finds anything and the others after 1,000 trials.
        seed: the same seed and ``trials`` give the same front.
        inter: ``symmetric`` (mean of both directions) or ``directed`` (the later member in pool
            order carries the balls).
        objectives: other objectives of the same members (:func:`frechet_tables`,
            :func:`tables_from_precision_recall`); ``inter`` does not matter then.
        third: a third objective, minimised: ``members`` or ``cost`` (the sum of ``costs``, one
            a member by name); ``pareto-local`` only.
        min_size, max_size, include, exclude, max_per_gan, budget: constraints, see
            :meth:`Constraints.resolve`.
        warm_start: begin with the members of a short ``pareto-local`` search (Optuna samplers).
        resume: begin with the points of an earlier front of the same pool.
        study_storage: Optuna storage: ``sqlite:///FILE``, or a file name for a journal; a stored
            study of the same search is continued. None keeps the trials in memory.
        record: write the trials as CSV (number, members, intra_d, inter_d, seconds);
            ``pareto-local`` records those that entered the front.
        kernel: see :class:`Evaluator`.
        on_progress: called with (done, total).

    Raises:
        InputError: unknown names, an impossible constraint, a budget that is not positive,
            a front of another pool.
        DataError: scores no ensemble can be scored with.
        StoreError: the study's storage cannot be used.
        SearchInterrupted: Ctrl-C; carries the front found so far.
    """
    row = _row(sampler, seed, trials, seconds, study_storage)
    if third is not None and sampler != "pareto-local":
        raise InputError(f"sampler '{sampler}' takes two objectives: use pareto-local with third")
    strategy = row.load()
    started = time.perf_counter()
    if trials is None and seconds is None and not row.ends_by_itself:
        trials = DEFAULT_TRIALS
    evaluator = Evaluator(objectives or scores, inter=inter, kernel=kernel)
    if evaluator.names != scores.names:
        raise InputError("the objectives are of other members than the scores")
    constraints = Constraints.resolve(
        scores.names,
        min_size=min_size,
        max_size=max_size,
        include=include,
        exclude=exclude,
        max_per_gan=max_per_gan,
        budget=budget,
    )
    if trials is None and seconds is None and max_size is None:
        _check_end(sampler, constraints)
    key = pool_key(scores)
    if resume is not None:
        check_pool(resume, scores)
    run = SearchRun(
        evaluator,
        constraints,
        seed=seed,
        trials=trials,
        seconds=seconds,
        on_progress=on_progress,
        started=started,
        third=third_objective(scores, third, costs),
    )
    options = StrategyOptions(
        starts=_starts(evaluator, constraints, seed, warm_start, resume),
        study_storage=study_storage,
        study_name=f"ensgan-{sampler}-{_form_name(evaluator, inter)}-{seed}-{key}",
    )
    try:
        strategy(run, options)
    except KeyboardInterrupt:
        raise SearchInterrupted(_finish(run, sampler, key, record)) from None
    front = _finish(run, sampler, key, record)
    if run.trials == 0:
        raise InputError(f"the budget of {seconds} s ended before the first trial: allow more")
    if len(front) == 0:
        raise InputError(
            f"{sampler} met no ensemble that satisfies the constraints in {run.trials} trials: "
            "loosen them or use pareto-local"
        )
    return front


def _finish(run: SearchRun, sampler: str, key: str, record: Path | None) -> Front:
    if record is not None:
        run.write_record(record)
    return run.front(sampler, key)


def _check_end(sampler: str, constraints: Constraints) -> None:
    """An enumeration without any budget must be small."""
    if sampler == "exhaustive" and len(constraints.free) > _ENUMERABLE:
        raise InputError(
            f"exhaustive search over all sizes of {len(constraints.free)} members does not end: "
            "give max_size, trials or seconds"
        )


def _form_name(evaluator: Evaluator, inter: str) -> str:
    first = evaluator.objectives[0].partition(":")[0]
    return inter if first == "intra_d" else first


def _row(
    sampler: str,
    seed: int,
    trials: int | None,
    seconds: float | None,
    study_storage: str | None,
) -> _Row:
    if sampler not in _SAMPLERS:
        raise InputError(unknown_name("sampler", sampler, _SAMPLERS))
    row = _SAMPLERS[sampler]
    if seed < 0:
        raise InputError(f"seed {seed}: must not be negative")
    if trials is not None and trials < 1:
        raise InputError(f"trials {trials}: at least 1")
    if seconds is not None and not seconds > 0:
        raise InputError(f"seconds {seconds}: must be above 0")
    if study_storage is not None and not row.stores_trials:
        raise InputError(f"sampler '{sampler}' keeps no Optuna study: leave the storage out")
    return row


def _starts(
    evaluator: Evaluator,
    constraints: Constraints,
    seed: int,
    warm_start: bool,
    resume: Front | None,
) -> list[tuple[int, ...]]:
    starts = [] if resume is None else [evaluator.indices(point.members) for point in resume]
    if warm_start:
        from ensgan.search.local import pareto_local

        warm = SearchRun(evaluator, constraints, seed=seed)
        pareto_local(warm)
        starts += warm.archive.members
    return starts
