"""Recorded runs: what a store does, one in memory, and MLflow."""

from __future__ import annotations

from ensgan.store.base import RunStore
from ensgan.store.folders import ENSEMBLE_FOLDER
from ensgan.store.memory import MemoryStore
from ensgan.store.opening import (
    LATEST,
    MOST_RUNS,
    STORES,
    StoreKind,
    beginning_with,
    default_storage,
    find_run,
    is_model_address,
    open_store,
    promote,
)
from ensgan.store.record import (
    TAG_DATASET,
    TAG_GAN,
    TAG_RECORD,
    TAG_SELECTED,
    RunRecord,
    sort_runs,
    status_named,
)
from ensgan.store.tracking import MLflowStore

__all__ = [
    "ENSEMBLE_FOLDER",
    "LATEST",
    "MOST_RUNS",
    "STORES",
    "TAG_DATASET",
    "TAG_GAN",
    "TAG_RECORD",
    "TAG_SELECTED",
    "MLflowStore",
    "MemoryStore",
    "RunRecord",
    "RunStore",
    "StoreKind",
    "beginning_with",
    "default_storage",
    "find_run",
    "is_model_address",
    "open_store",
    "promote",
    "sort_runs",
    "status_named",
]
