"""The search for Pareto-optimal ensembles.

``EnsembleSampler`` needs Optuna and is imported when first asked for. The package itself can be
called: ``ensgan.search(scores, …)`` is :func:`search`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ensgan.search.confidence import FrontConfidence, Interval, bootstrap
from ensgan.search.constraints import Budget, Constraints
from ensgan.search.evaluator import Evaluator
from ensgan.search.frechet import UnionMoments, frechet_tables, union_moments
from ensgan.search.objectives import (
    ObjectiveTables,
    check_comparable,
    pool_key,
    tables_from_precision_recall,
    tables_from_scores,
)
from ensgan.search.options import SearchOptions
from ensgan.search.pareto import hypervolume, pareto_front
from ensgan.search.rescore import inter_form, rescore, shared_members
from ensgan.search.select import check_pool, rules, select
from ensgan.search.strategies import SearchInterrupted, samplers, search
from ensgan.search.third import fronts_by_cost, fronts_by_size
from ensgan.search.values import Neighbourhood, Values
from ensgan.search.weights import optimise_weights
from ensgan.types import Front

if TYPE_CHECKING:
    from ensgan.search.optuna import EnsembleSampler

__all__ = [
    "Budget",
    "Constraints",
    "EnsembleSampler",
    "Evaluator",
    "FrontConfidence",
    "Interval",
    "Neighbourhood",
    "ObjectiveTables",
    "SearchInterrupted",
    "SearchOptions",
    "UnionMoments",
    "Values",
    "bootstrap",
    "check_comparable",
    "check_pool",
    "frechet_tables",
    "fronts_by_cost",
    "fronts_by_size",
    "hypervolume",
    "inter_form",
    "optimise_weights",
    "pareto_front",
    "pool_key",
    "rescore",
    "rules",
    "samplers",
    "search",
    "select",
    "shared_members",
    "tables_from_precision_recall",
    "tables_from_scores",
    "union_moments",
]


def __getattr__(name: str) -> Any:
    if name == "EnsembleSampler":
        from ensgan.search.optuna import EnsembleSampler

        return EnsembleSampler
    raise AttributeError(f"module 'ensgan.search' has no attribute '{name}'")


class _CallableSearch(ModuleType):
    """Lets ``ensgan.search`` be both this package and the function."""

    def __call__(self, *args: Any, **options: Any) -> Front:
        return search(*args, **options)


sys.modules[__name__].__class__ = _CallableSearch
