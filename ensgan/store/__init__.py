"""Recorded runs: what a store does, one in memory, and MLflow."""

from __future__ import annotations

from ensgan.store.base import RunStore
from ensgan.store.folders import ENSEMBLE_FOLDER
from ensgan.store.memory import MemoryStore
from ensgan.store.opening import (
    STORES,
    StoreKind,
    default_storage,
    is_model_address,
    open_store,
    promote,
    run_of_model,
)
from ensgan.store.record import (
    TAG_DATASET,
    TAG_GAN,
    TAG_RECORD,
    TAG_SELECTED,
    RunRecord,
    status_named,
)
from ensgan.store.tracking import MLflowStore

__all__ = [
    "ENSEMBLE_FOLDER",
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
    "default_storage",
    "is_model_address",
    "open_store",
    "promote",
    "run_of_model",
    "status_named",
]
