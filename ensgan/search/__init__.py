"""The search for Pareto-optimal ensembles.

Only :func:`search` is bound at once, because ``import ensgan`` binds it as ``ensgan.search``; what
else is public is in :mod:`ensgan.search.api`, loaded when one of its names is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ensgan.search.entry import SearchInterrupted, search

if TYPE_CHECKING:
    from ensgan.search.api import *  # noqa: F403
    from ensgan.search.optuna import EnsembleSampler


def __getattr__(name: str) -> Any:
    # Optuna takes half a second to import, and it may be missing.
    home = "optuna" if name == "EnsembleSampler" else "api"
    try:
        return getattr(importlib.import_module(f"ensgan.search.{home}"), name)
    except AttributeError:
        raise AttributeError(f"module 'ensgan.search' has no attribute '{name}'") from None
