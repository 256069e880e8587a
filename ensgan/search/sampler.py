"""The samplers by name, and one search with one of them, from its ledger to its front.

Heavy packages are imported when a sampler is loaded, before its clock starts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from ensgan.errors import InputError
from ensgan.registry import Registry
from ensgan.search import SearchInterrupted
from ensgan.search.ledger import SearchLedger
from ensgan.search.pools import check_pool, pool_key
from ensgan.types import Front, PoolScores

DEFAULT_TRIALS = 1000
_ENUMERABLE = 20


@dataclass(frozen=True)
class SamplerInputs:
    """What a sampler may use beside its ledger.

    Attributes:
        starts: subsets to begin with (a warm start or a resumed front).
        study_storage: where Optuna keeps its trials; None is memory.
        study_name: name of that study: the same search finds its trials again.
    """

    starts: Sequence[Sequence[int]] = ()
    study_storage: str | None = None
    study_name: str = "ensgan"


Strategy: TypeAlias = Callable[[SearchLedger, SamplerInputs], object]
"""Searches until the ledger's budget is spent, or until nothing is left to find."""


@dataclass(frozen=True)
class Sampler:
    """One sampler.

    Attributes:
        name: as options and sweep files have it.
        load: imports what it needs and returns the strategy.
        stores_trials: whether an Optuna storage makes sense.
        ends_by_itself: whether it stops without a budget; the others do after 1,000 trials.
        enumerates: whether it goes through all sizes: without a budget they must be few.
    """

    name: str
    load: Callable[[], Strategy]
    stores_trials: bool = False
    ends_by_itself: bool = False
    enumerates: bool = False


def _later(module: str, function: str) -> Callable[[], Any]:
    """Loads a strategy from a module of this package."""
    return lambda: getattr(importlib.import_module(f"ensgan.search.{module}"), function)


def _optuna(name: str, sampler: str, **settings: Any) -> Sampler:
    """A study; ``sampler`` is a class of ``optuna.samplers``, or EnsembleSampler."""

    search = _later("optuna", "search_with_optuna")
    return Sampler(
        name, lambda: partial(search(), sampler=sampler, settings=settings), stores_trials=True
    )


SAMPLERS = Registry(
    "sampler",
    "ensgan.samplers",
    Sampler,
    (
        Sampler("pareto-local", _later("own_samplers", "pareto_local"), ends_by_itself=True),
        _optuna("ensemble", "EnsembleSampler"),
        _optuna("nsga2", "NSGAIISampler"),
        _optuna("nsga3", "NSGAIIISampler"),
        # The paper's setting; Optuna's own default is univariate.
        _optuna("tpe", "TPESampler", multivariate=True),
        _optuna("gp", "GPSampler"),
        _optuna("random", "RandomSampler"),
        Sampler("pymoo", _later("pymoo", "search_with_pymoo")),
        Sampler(
            "exhaustive", _later("own_samplers", "exhaustive"), ends_by_itself=True, enumerates=True
        ),
    ),
)


samplers = SAMPLERS.names
"""Names of the samplers."""


def run(
    pool: PoolScores,
    ledger: SearchLedger,
    name: str,
    resume: Front | str | Path | None,
    warm_start: bool,
    study_storage: str | Path | None,
    record: str | Path | None,
) -> Front:
    """Search until the ledger's budget ends; the options are those of :func:`ensgan.search`.

    Raises:
        InputError: an unknown sampler, an enumeration without end, a storage for a sampler that
            keeps no study, a front of another pool, or no ensemble that satisfies the constraints.
        SearchInterrupted: Ctrl-C.
    """
    sampler = SAMPLERS.get(name)
    if study_storage is not None and not sampler.stores_trials:
        raise InputError(f"sampler '{sampler.name}' keeps no Optuna study: leave the storage out")
    _set_budget(ledger, sampler)
    if resume is not None:
        resume = resume if isinstance(resume, Front) else Front.load(Path(resume))
        check_pool(resume, pool)
    strategy, interrupted = sampler.load(), False
    try:
        starts = [] if resume is None else [ledger.evaluator.indices(p.members) for p in resume]
        if warm_start:
            warm = replace(ledger, limit_trials=None, limit_seconds=None, on_progress=None)
            SAMPLERS.get("pareto-local").load()(warm, SamplerInputs())
            starts += warm.archive.members
        inputs = SamplerInputs(starts)
        if study_storage is not None:
            inputs = SamplerInputs(starts, str(study_storage), _study_name(ledger, sampler, pool))
        strategy(ledger, inputs)
    except KeyboardInterrupt:
        interrupted = True
    if record is not None:
        ledger.write_record(Path(record))
    # Last: of 10,000 members the key takes seconds, and the search's clock runs.
    front = ledger.front(sampler.name, pool_key(pool))
    if interrupted:
        raise SearchInterrupted(front)
    if len(front) == 0:
        raise InputError(
            f"{sampler.name} met no ensemble that satisfies the constraints in "
            f"{ledger.trials} trials: loosen them or use pareto-local"
        )
    return front


def _set_budget(ledger: SearchLedger, sampler: Sampler) -> None:
    """Set a budget for a search that would not end by itself, or refuse it."""
    if ledger.bounded:
        return
    if not sampler.ends_by_itself:
        ledger.limit_trials = DEFAULT_TRIALS
    free = len(ledger.constraints.free)
    every_size = ledger.constraints.max_size == len(ledger.evaluator)
    if sampler.enumerates and every_size and free > _ENUMERABLE:
        raise InputError(
            f"exhaustive search over all sizes of {free} members does not end: "
            "give max_size, trials or seconds"
        )


def _study_name(ledger: SearchLedger, sampler: Sampler, pool: PoolScores) -> str:
    """A name of the study from all that defines the search, so that it finds its trials again."""
    first, second = ledger.evaluator.tables.axes
    form = first.key
    if form == "intra_d":
        form = "-".join(filter(None, (first.variant, second.variant)))
    third = "" if ledger.third is None else f"-{ledger.third.unit}"
    return f"ensgan-{sampler.name}-{form}{third}-{ledger.seed}-{pool_key(pool)}"
