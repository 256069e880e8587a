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
from ensgan.errors import EnsganError, InputError
from ensgan.metrics import measure_pool
from ensgan.metrics.blocks import BlockScorer, BlockScores, BlockTask
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


@pytest.mark.timeout(300)
def test_a_failing_task_is_named_and_the_run_goes_on_later(
    cluster: None, pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "pool.npz", **pool)
    output = tmp_path / "scores.npz"
    words = ["score", tmp_path / "pool.npz", "-o", output, "-k", 3, "--address", "local"]
    arguments = [str(word) for word in words]

    def breaks_on_the_last(task: BlockTask) -> BlockScores:
        if task.rows[-1].name == "G@19":  # the last block
            raise RuntimeError("CUDA error: out of memory")
        return BlockScorer()(task)

    monkeypatch.setattr("ensgan.metrics.pool.BlockScorer", lambda: breaks_on_the_last)
    error = CliRunner().invoke(app, arguments).exception
    assert type(error) is EnsganError and error.exit_code == 1
    for part in ("scoring the block of", "G@19", "CUDA error: out of memory", "run the same"):
        assert part in str(error)
    assert not output.exists()
    kept = list((tmp_path / ".scores.npz.blocks").glob("block-*.npz"))
    assert kept
    monkeypatch.undo()
    before = {path: path.stat().st_mtime_ns for path in kept}
    times: dict[Path, int] = {}

    def seen(path: Path) -> None:
        times.update((each, each.stat().st_mtime_ns) for each in kept)

    monkeypatch.setattr("ensgan.cli.score._remove", seen)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert times == before, "finished blocks are read, not scored again"
    here = measure_pool(pool["real"], list(pool["fake"]), list(pool["names"]), k=3)
    there = PoolScores.load(output)
    assert np.array_equal(there.directed, here.scores.directed, equal_nan=True)


@pytest.mark.timeout(300)
def test_bad_features_are_named_as_they_are_without_ray(
    cluster: None, pool, tmp_path: Path
) -> None:
    pool["fake"][7, 3, 1] = np.nan
    np.savez(tmp_path / "pool.npz", **pool)
    words = ["score", tmp_path / "pool.npz", "-o", tmp_path / "s.npz", "-k", 3]
    arguments = [str(word) for word in words]
    here = CliRunner().invoke(app, arguments).exception
    there = CliRunner().invoke(app, [*arguments, "--address", "local"]).exception
    assert isinstance(here, InputError) and "G@7" in str(here)
    assert (type(there), str(there)) == (type(here), str(here))
