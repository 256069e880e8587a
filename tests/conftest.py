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


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of oracles and real data beside the checkout; skips where it is absent."""
    if not (SHARED / "oracles").is_dir():
        pytest.skip("no shared/ folder with oracles beside this checkout")
    return SHARED
