"""The search for Pareto-optimal ensembles.

``from ensgan.search import Evaluator`` and the like load what they name; only :func:`search` is
bound at once, because ``import ensgan`` binds it as ``ensgan.search``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ensgan.search.entry import SearchInterrupted as SearchInterrupted
from ensgan.search.entry import search as search

if TYPE_CHECKING:
    from ensgan.search.confidence import FrontConfidence as FrontConfidence
    from ensgan.search.confidence import Interval as Interval
    from ensgan.search.confidence import bootstrap as bootstrap
    from ensgan.search.constraints import Budget as Budget
    from ensgan.search.constraints import Constraints as Constraints
    from ensgan.search.evaluator import Evaluator as Evaluator
    from ensgan.search.forms import FORMS as FORMS
    from ensgan.search.forms import FormInputs as FormInputs
    from ensgan.search.forms import ObjectiveForm as ObjectiveForm
    from ensgan.search.forms import Ratio as Ratio
    from ensgan.search.forms import ScoredFeatures as ScoredFeatures
    from ensgan.search.forms import find_form as find_form
    from ensgan.search.forms.frechet import UnionMoments as UnionMoments
    from ensgan.search.forms.frechet import frechet_tables as frechet_tables
    from ensgan.search.forms.frechet import union_moments as union_moments
    from ensgan.search.forms.paper import tables_from_scores as tables_from_scores
    from ensgan.search.forms.precision_recall import (
        tables_from_precision_recall as tables_from_precision_recall,
    )
    from ensgan.search.optuna import EnsembleSampler as EnsembleSampler
    from ensgan.search.pareto import hypervolume as hypervolume
    from ensgan.search.pareto import pareto_front as pareto_front
    from ensgan.search.pool import check_comparable as check_comparable
    from ensgan.search.pool import check_pool as check_pool
    from ensgan.search.pool import pool_key as pool_key
    from ensgan.search.rescoring import evaluator_of as evaluator_of
    from ensgan.search.rescoring import optimise_weights as optimise_weights
    from ensgan.search.rescoring import rescore as rescore
    from ensgan.search.rescoring import shared_members as shared_members
    from ensgan.search.sampler import SAMPLERS as SAMPLERS
    from ensgan.search.sampler import Sampler as Sampler
    from ensgan.search.sampler import samplers as samplers
    from ensgan.search.selection import RULES as RULES
    from ensgan.search.selection import SelectionRule as SelectionRule
    from ensgan.search.selection import rules as rules
    from ensgan.search.selection import select as select
    from ensgan.search.tables import ObjectiveTables as ObjectiveTables
    from ensgan.search.third_objective import THIRDS as THIRDS

_HOMES = {
    "confidence": ("FrontConfidence", "Interval", "bootstrap"),
    "constraints": ("Budget", "Constraints"),
    "evaluator": ("Evaluator",),
    "forms": ("FORMS", "FormInputs", "ObjectiveForm", "Ratio", "ScoredFeatures", "find_form"),
    "forms.frechet": ("UnionMoments", "frechet_tables", "union_moments"),
    "forms.paper": ("tables_from_scores",),
    "forms.precision_recall": ("tables_from_precision_recall",),
    "optuna": ("EnsembleSampler",),
    "pareto": ("hypervolume", "pareto_front"),
    "pool": ("check_comparable", "check_pool", "pool_key"),
    "rescoring": ("evaluator_of", "optimise_weights", "rescore", "shared_members"),
    "sampler": ("SAMPLERS", "Sampler", "samplers"),
    "selection": ("RULES", "SelectionRule", "rules", "select"),
    "tables": ("ObjectiveTables",),
    "third_objective": ("THIRDS",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ensgan.search' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ensgan.search.{_HOME_OF[name]}"), name)
