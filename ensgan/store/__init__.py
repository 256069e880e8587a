"""Recorded runs: what a store does, and MLflow."""

from ensgan.store.base import RunStore as RunStore
from ensgan.store.opening import LATEST as LATEST
from ensgan.store.opening import STORES as STORES
from ensgan.store.opening import StoreKind as StoreKind
from ensgan.store.opening import beginning_with as beginning_with
from ensgan.store.opening import default_storage as default_storage
from ensgan.store.opening import find_run as find_run
from ensgan.store.opening import is_model_address as is_model_address
from ensgan.store.opening import open_store as open_store
from ensgan.store.opening import promote as promote
from ensgan.store.record import ENSEMBLE_FOLDER as ENSEMBLE_FOLDER
from ensgan.store.record import TAG_DATASET as TAG_DATASET
from ensgan.store.record import TAG_GAN as TAG_GAN
from ensgan.store.record import TAG_RECORD as TAG_RECORD
from ensgan.store.record import TAG_REPLACED as TAG_REPLACED
from ensgan.store.record import TAG_SELECTED as TAG_SELECTED
from ensgan.store.record import RunRecord as RunRecord
from ensgan.store.record import sort_runs as sort_runs
from ensgan.store.record import status_named as status_named
from ensgan.store.tracking import MLflowStore as MLflowStore
