"""The classifier that shows what an ensemble's images are worth.

Names of strategies and rules are needed where help texts are written: what needs torch is loaded
when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ensgan.downstream.metrics import METRICS, classification_metrics, import_libraries
from ensgan.downstream.shortlist import Candidate, CappedIntraD, make_shortlist
from ensgan.downstream.statistics import RankCorrelation, rank_correlation
from ensgan.downstream.strategies import STRATEGIES, build_strategies, check_strategies
from ensgan.downstream.strategy import WEIGHTINGS, Strategy, reweighted
from ensgan.downstream.strategy_forms import StrategyContext, StrategyForm, spread_points
from ensgan.downstream.table import (
    DownstreamTable,
    Spread,
    StrategyRow,
    needs_long_real,
    summarise,
)
from ensgan.downstream.validated import (
    Round,
    ValidatedChoice,
    ValidationResult,
    ValidationTrial,
    choose_unvalidated,
    choose_validated,
)

if TYPE_CHECKING:
    from ensgan.downstream.pool import MemoryBank, SampleBank
    from ensgan.downstream.repeat import RepeatResult, check_dataset, run_repeat, validate_repeat
    from ensgan.downstream.settings import ClassifierSettings

_LATER = {
    "MemoryBank": "pool",
    "SampleBank": "pool",
    "RepeatResult": "repeat",
    "check_dataset": "repeat",
    "run_repeat": "repeat",
    "validate_repeat": "repeat",
    "ClassifierSettings": "settings",
}

__all__ = [
    "METRICS",
    "STRATEGIES",
    "WEIGHTINGS",
    "Candidate",
    "CappedIntraD",
    "ClassifierSettings",
    "DownstreamTable",
    "MemoryBank",
    "RankCorrelation",
    "RepeatResult",
    "Round",
    "SampleBank",
    "Spread",
    "Strategy",
    "StrategyContext",
    "StrategyForm",
    "StrategyRow",
    "ValidatedChoice",
    "ValidationResult",
    "ValidationTrial",
    "build_strategies",
    "check_dataset",
    "check_strategies",
    "choose_unvalidated",
    "choose_validated",
    "classification_metrics",
    "import_libraries",
    "make_shortlist",
    "needs_long_real",
    "rank_correlation",
    "reweighted",
    "run_repeat",
    "spread_points",
    "summarise",
    "validate_repeat",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'ensgan.downstream' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ensgan.downstream.{_LATER[name]}"), name)
