"""ensgan: Pareto-optimal ensembles of GANs for faithful and diverse synthetic medical images.

The names below are loaded when they are first used, so that ``import ensgan`` is quick and needs
none of the heavy packages.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Bound now, and nothing heavy with it: a later import of the package of the same name would bind
# the package instead.
from ensgan.search import search

if TYPE_CHECKING:
    from ensgan.data import load_dataset
    from ensgan.embedding import embed, make_extractor
    from ensgan.ensemble import Ensemble, load_ensemble
    from ensgan.launch.runs import load_run, runs
    from ensgan.launch.sweep import run_sweep
    from ensgan.metrics import density_coverage, prdc, score_pool
    from ensgan.search import EnsembleSampler, select
    from ensgan.types import Dataset, Embeddings, Front, FrontPoint, PoolScores, Samples, Selection

__version__ = "0.1.0"

_HOME = {
    "load_run": "launch.runs",
    "run_sweep": "launch.sweep",
    "runs": "launch.runs",
    "load_dataset": "data",
    "embed": "embedding",
    "make_extractor": "embedding",
    "Ensemble": "ensemble",
    "load_ensemble": "ensemble",
    "density_coverage": "metrics",
    "prdc": "metrics",
    "score_pool": "metrics",
    "EnsembleSampler": "search",
    "select": "search",
    "Dataset": "types",
    "Embeddings": "types",
    "Front": "types",
    "FrontPoint": "types",
    "PoolScores": "types",
    "Samples": "types",
    "Selection": "types",
}

__all__ = [
    "Dataset",
    "Embeddings",
    "Ensemble",
    "EnsembleSampler",
    "Front",
    "FrontPoint",
    "PoolScores",
    "Samples",
    "Selection",
    "density_coverage",
    "embed",
    "load_dataset",
    "load_ensemble",
    "load_run",
    "make_extractor",
    "prdc",
    "run_sweep",
    "runs",
    "score_pool",
    "search",
    "select",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'ensgan' has no attribute '{name}'")
    module = importlib.import_module(f"ensgan.{home}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
