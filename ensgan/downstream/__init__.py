"""The classifier that proves an ensemble."""

from ensgan.downstream.bank import FolderBank, MemoryBank, SampleBank
from ensgan.downstream.correlation import RankCorrelation, rank_correlation
from ensgan.downstream.metrics import METRICS, classification_metrics, import_libraries
from ensgan.downstream.repeat import RepeatResult, check_dataset, run_repeat
from ensgan.downstream.settings import ClassifierSettings
from ensgan.downstream.strategies import (
    build_strategies,
    check_strategies,
    spread_points,
    strategy_names,
)
from ensgan.downstream.strategy import Strategy
from ensgan.downstream.table import DownstreamTable, Spread, StrategyRow, summarise
from ensgan.downstream.weighting import WEIGHTINGS, reweighted

__all__ = [
    "METRICS",
    "WEIGHTINGS",
    "ClassifierSettings",
    "DownstreamTable",
    "FolderBank",
    "MemoryBank",
    "RankCorrelation",
    "RepeatResult",
    "SampleBank",
    "Spread",
    "Strategy",
    "StrategyRow",
    "build_strategies",
    "check_dataset",
    "check_strategies",
    "classification_metrics",
    "import_libraries",
    "rank_correlation",
    "reweighted",
    "run_repeat",
    "spread_points",
    "strategy_names",
    "summarise",
]
