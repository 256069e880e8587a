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

_NAMES_OF = {
    "data": "load_dataset",
    "embedding": "embed make_extractor",
    "ensemble": "Ensemble load_ensemble",
    "launch.runs": "load_run runs",
    "launch.sweep": "run_sweep",
    "metrics": "density_coverage prdc score_pool",
    "search": "EnsembleSampler select",
    "types": "Dataset Embeddings Front FrontPoint PoolScores Samples Selection",
}
_HOME = {name: module for module, names in _NAMES_OF.items() for name in names.split()}
__all__ = ["search", *_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'ensgan' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ensgan.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
