"""The samplers by name: how each is loaded, and what it can do.

Heavy packages are imported when a sampler is loaded, before its clock starts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from ensgan.registry import Registry

if TYPE_CHECKING:
    from ensgan.search.ledger import SearchLedger


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


Strategy: TypeAlias = "Callable[[SearchLedger, SamplerInputs], object]"
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
        Sampler("pareto-local", _later("local_search", "pareto_local"), ends_by_itself=True),
        _optuna("ensemble", "EnsembleSampler"),
        _optuna("nsga2", "NSGAIISampler"),
        _optuna("nsga3", "NSGAIIISampler"),
        # The paper's setting; Optuna's own default is univariate.
        _optuna("tpe", "TPESampler", multivariate=True),
        _optuna("gp", "GPSampler"),
        _optuna("random", "RandomSampler"),
        Sampler("pymoo", _later("pymoo", "search_with_pymoo")),
        Sampler(
            "exhaustive", _later("exhaustive", "exhaustive"), ends_by_itself=True, enumerates=True
        ),
    ),
)


samplers = SAMPLERS.names
"""Names of the samplers."""
