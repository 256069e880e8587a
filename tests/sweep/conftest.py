"""One finished small sweep for all tests that only look at it."""

from __future__ import annotations

import pytest
from local_sweep import Home

from ensgan.sweep.events import SweepResult


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Where sweeps of any name but ``tiny`` may be run; the store knows all of them."""
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def result(home: Home) -> SweepResult:
    """The sweep ``tiny``. Nobody runs it again: that would change its manifest."""
    return home.run()
