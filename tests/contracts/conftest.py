"""What the contract tests of stores share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensgan.store import open_store


@pytest.fixture(scope="session")
def blank_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blank")
    open_store(f"sqlite:///{folder}/mlflow.db").prepare()
    return folder / "mlflow.db"
