"""Fixtures every part uses."""

from __future__ import annotations

import os
from pathlib import Path

# Tests share two cores: one thread each keeps them fast and bit-reproducible.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A slow machine is no failure, and what CI tries must not change from run to run.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

SHARED = Path(__file__).parents[2] / "shared"
ORACLES = Path(__file__).parent / "oracles"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and pools beside the checkout; skips where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no shared/ folder with real data beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Numbers from outside that the zoo and the metrics are held against."""
    return ORACLES
