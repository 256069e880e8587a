"""The pair blocks of a pool as Ray tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ensgan.cli.app import app
from ensgan.cluster.session import ray_session
from ensgan.metrics import measure_pool
from ensgan.types import PoolScores


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_session("local", cpus=2):
        yield


@pytest.fixture
def pool() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    fakes = rng.normal(size=(20, 30, 4)) * np.linspace(0.5, 1.5, 20)[:, None, None]
    return {
        "real": rng.normal(size=(40, 4)).astype(np.float32),
        "fake": fakes.astype(np.float32),
        "names": np.array([f"G@{i}" for i in range(20)]),
    }


@pytest.mark.timeout(300)
def test_score_on_ray_equals_score_here(cluster: None, pool, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "pool.npz", **pool)
    output = tmp_path / "scores.npz"
    words = ["score", tmp_path / "pool.npz", "-o", output, "-k", 3, "--address", "local", "--json"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    here = measure_pool(pool["real"], list(pool["fake"]), list(pool["names"]), k=3)
    there = PoolScores.load(output)
    assert np.array_equal(there.masks, here.scores.masks)
    assert np.array_equal(there.directed, here.scores.directed, equal_nan=True)
    value = json.loads(result.stdout)
    assert list(value["recall"].values()) == here.recall.tolist()
    assert set(value["frechet"]) == set(value["density"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pool.npz", "scores.npz"]
