"""The classifier that shows what an ensemble's images are worth.

Names of strategies and rules are needed where help texts are written: what needs torch is loaded
when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ensgan.downstream.probe import LabelConsistency, LabelledFeatures, LinearProbe
from ensgan.downstream.statistics import RankCorrelation as RankCorrelation
from ensgan.downstream.statistics import classification_metrics as classification_metrics
from ensgan.downstream.statistics import import_libraries as import_libraries
from ensgan.downstream.statistics import rank_correlation as rank_correlation
from ensgan.downstream.strategies import STRATEGIES, build_strategies, check_strategies, fits_pool
from ensgan.downstream.strategy import Candidate as Candidate
from ensgan.downstream.strategy import CappedIntraD as CappedIntraD
from ensgan.downstream.strategy import Strategy as Strategy
from ensgan.downstream.strategy import StrategyForm as StrategyForm
from ensgan.downstream.strategy import make_shortlist as make_shortlist
from ensgan.downstream.strategy import reweighted as reweighted
from ensgan.downstream.strategy import spread_points as spread_points
from ensgan.downstream.table import DownstreamTable, Spread, StrategyRow, needs_long_real, summarise
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
    from ensgan.downstream.pool import MemoryBank

_LATER = {
    "MemoryBank": "pool",
    **dict.fromkeys(("ClassifierSettings", "Repeat", "RepeatResult"), "classifier"),
    **dict.fromkeys(("check_dataset", "run_repeat", "run_repeats"), "classifier"),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'ensgan.downstream' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ensgan.downstream.{_LATER[name]}"), name)
