"""Contract suites that other projects ship, and the odd files in their packages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pydicom.data
import pytest
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase
from optuna.testing.pytest_storages import StorageTestCase

from ensgan.data.picture import read_picture
from ensgan.errors import DataError, EnsganError
from ensgan.search.optuna.sampler import EnsembleSampler
from ensgan.search.optuna.study import _open_storage
from ensgan.store import open_store

DICOM = Path(pydicom.data.__file__).parent
FILES = sorted(path for path in DICOM.rglob("*") if path.is_file() and path.suffix != ".py")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
class TestEnsembleSampler(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    """Optuna's own tests of a sampler: parameters that are no members are sampled at random."""

    @pytest.fixture
    def sampler(self, pool) -> Callable[[], BaseSampler]:
        return lambda: EnsembleSampler(pool, lookahead=20)


@pytest.fixture(scope="module")
def pool():
    from ensgan.metrics import score_pool

    rng = np.random.default_rng(0)
    real = rng.normal(size=(60, 4))
    return score_pool(real, [real[:50] + rng.normal(size=(50, 4)) * s for s in (0.2, 0.5, 1)],
                      ["A", "B", "C"])  # fmt: skip


@pytest.mark.slow
class TestStorages(StorageTestCase):
    """Optuna's own tests of a storage, on those that ``search --storage`` opens."""

    @pytest.fixture(params=["journal", "sqlite:///{}.db"])
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path) -> BaseStorage:
        name = str(tmp_path / "study")
        return _open_storage(request.param.format(name) if ":" in request.param else name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_pydicoms_files_are_read_or_refused_in_a_sentence(path: Path) -> None:
    try:
        pixels, _ = read_picture(path)
    except DataError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim in (2, 3)


def test_some_of_them_are_read() -> None:
    def is_read(path: Path) -> bool:
        try:
            return bool(read_picture(path)[0].size)
        except EnsganError:
            return False

    assert sum(map(is_read, FILES)) >= 20


def test_mlflows_own_client_reads_what_a_store_recorded(tmp_path: Path) -> None:
    store = open_store(storage=tmp_path)
    run_id = store.create_run("a sweep", kind="sweep", params={"seed": 7})
    store.log_metrics(run_id, {"intra_d": 0.5})
    (tmp_path / "front.json").write_text("{}")
    store.log_file(run_id, tmp_path / "front.json", "front")
    store.finish(run_id)
    client = mlflow.MlflowClient(tracking_uri=store.uri)
    run = client.get_run(run_id)
    assert run.info.run_name == "a sweep" and run.info.status == "FINISHED"
    assert run.data.params["seed"] == "7" and run.data.metrics["intra_d"] == 0.5
    assert [file.path for file in client.list_artifacts(run_id, "front")] == ["front/front.json"]
    fetched = client.download_artifacts(run_id, "front/front.json", str(tmp_path))
    assert Path(fetched).read_text() == "{}"
