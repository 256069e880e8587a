"""Recorded runs: the protocol, a store in memory, and MLflow."""

from __future__ import annotations

from ensgan.store.base import (
    TAG_DATASET,
    TAG_GAN,
    TAG_KIND,
    TAG_RECORD,
    TAG_SELECTED,
    RunRecord,
    RunStatus,
    RunStore,
    status_named,
)
from ensgan.store.folders import ENSEMBLE_FOLDER
from ensgan.store.memory import MemoryStore
from ensgan.store.models import is_model_address, promote, run_of_model
from ensgan.store.opening import STORES, StoreKind, default_storage, open_store
from ensgan.store.tracking import MLflowStore

__all__ = [
    "ENSEMBLE_FOLDER",
    "STORES",
    "TAG_DATASET",
    "TAG_GAN",
    "TAG_KIND",
    "TAG_RECORD",
    "TAG_SELECTED",
    "MLflowStore",
    "MemoryStore",
    "RunRecord",
    "RunStatus",
    "RunStore",
    "StoreKind",
    "default_storage",
    "is_model_address",
    "open_store",
    "promote",
    "run_of_model",
    "status_named",
]
