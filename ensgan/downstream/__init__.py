"""The classifier that shows what an ensemble's images are worth.

Names of strategies and rules are needed where help texts are written: what needs torch is loaded
when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ensgan.downstream.probe import LabelConsistency as LabelConsistency
from ensgan.downstream.probe import LabelledFeatures as LabelledFeatures
from ensgan.downstream.probe import LinearProbe as LinearProbe
from ensgan.downstream.shortlist import Candidate as Candidate
from ensgan.downstream.shortlist import CappedIntraD as CappedIntraD
from ensgan.downstream.shortlist import make_shortlist as make_shortlist
from ensgan.downstream.statistics import RankCorrelation as RankCorrelation
from ensgan.downstream.statistics import classification_metrics as classification_metrics
from ensgan.downstream.statistics import import_libraries as import_libraries
from ensgan.downstream.statistics import rank_correlation as rank_correlation
from ensgan.downstream.strategies import STRATEGIES as STRATEGIES
from ensgan.downstream.strategies import build_strategies as build_strategies
from ensgan.downstream.strategies import check_strategies as check_strategies
from ensgan.downstream.strategies import fits_pool as fits_pool
from ensgan.downstream.strategy import Strategy as Strategy
from ensgan.downstream.strategy import StrategyForm as StrategyForm
from ensgan.downstream.strategy import reweighted as reweighted
from ensgan.downstream.strategy import spread_points as spread_points
from ensgan.downstream.table import DownstreamTable as DownstreamTable
from ensgan.downstream.table import Spread as Spread
from ensgan.downstream.table import StrategyRow as StrategyRow
from ensgan.downstream.table import needs_long_real as needs_long_real
from ensgan.downstream.table import summarise as summarise
from ensgan.downstream.validated import Ranked as Ranked
from ensgan.downstream.validated import ValidatedChoice as ValidatedChoice
from ensgan.downstream.validated import ValidationResult as ValidationResult
from ensgan.downstream.validated import ValidationTrial as ValidationTrial
from ensgan.downstream.validated import choose_unvalidated as choose_unvalidated
from ensgan.downstream.validated import choose_validated as choose_validated
from ensgan.downstream.validated import merits as merits

if TYPE_CHECKING:
    from ensgan.downstream.classifier import ClassifierSettings as ClassifierSettings
    from ensgan.downstream.classifier import Repeat as Repeat
    from ensgan.downstream.classifier import RepeatResult as RepeatResult
    from ensgan.downstream.classifier import check_dataset as check_dataset
    from ensgan.downstream.classifier import run_repeat as run_repeat
    from ensgan.downstream.classifier import run_repeats as run_repeats
    from ensgan.downstream.pool import MemoryBank as MemoryBank

_CLASSES = ("ClassifierSettings", "Repeat", "RepeatResult")
_FUNCTIONS = ("check_dataset", "run_repeat", "run_repeats")
_LATER = {
    "MemoryBank": "pool",
    **dict.fromkeys(_CLASSES + _FUNCTIONS, "classifier"),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'ensgan.downstream' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ensgan.downstream.{_LATER[name]}"), name)
