from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ensgan.errors import DataError
from ensgan.metrics import blocks, frechet_distance, measure_pool
from ensgan.metrics.features import load_pool
from ensgan.metrics.reference import frechet_distances
from ensgan.types import PoolScores


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(1)
    return {
        "real": rng.normal(size=(30, 4)).astype(np.float32),
        "fake": rng.normal(size=(3, 20, 4)).astype(np.float16),
        "names": np.array(["a", "b", "c"]),
        "extractor": np.array("random-1"),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_larger_than_memory_is_mapped(arrays, save, tmp_path):
    path = tmp_path / "pool.npz"
    save(path, **arrays)
    pool = load_pool(path, scratch=tmp_path / "scratch", memory_bytes=1000)
    assert (pool.names, pool.extractor) == (("a", "b", "c"), "random-1")
    for source, expected in zip(
        (pool.real, *pool.fakes), (arrays["real"], *arrays["fake"]), strict=True
    ):
        again = pickle.loads(pickle.dumps(source))
        assert len(pickle.dumps(source)) < 500
        value = again()
        assert isinstance(value, np.memmap) and not value.flags.writeable
        assert value.dtype == expected.dtype and np.array_equal(value, expected)
    unpacked = sorted(file.name for file in (tmp_path / "scratch").iterdir())
    assert unpacked == ["features-fake.npy", "features-real.npy"]
    whole = load_pool(path, scratch=tmp_path / "scratch")
    assert isinstance(whole.real, np.ndarray) and np.array_equal(whole.fakes[2], arrays["fake"][2])


def test_an_archive_that_would_fill_the_disk_is_refused_before_it_does(arrays, tmp_path):
    path = tmp_path / "pool.npz"
    np.savez_compressed(path, **{**arrays, "fake": np.zeros((3, 1 << 20, 50), np.float16)})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match=r"would unpack from 0.3 MB to 0.3 GB: refused as a zip"):
        load_pool(path, scratch=tmp_path / "scratch", memory_bytes=1000)
    assert not (tmp_path / "scratch").exists()


def test_damaged_and_incomplete_archives_are_named(arrays, tmp_path):
    path = tmp_path / "pool.npz"
    np.savez(path, **arrays)
    content = bytearray(path.read_bytes())
    at = content.index(arrays["fake"].tobytes())
    content[at + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"pool\.npz.*CRC"):
        load_pool(path, scratch=tmp_path, memory_bytes=1)
    np.savez(path, real=arrays["real"], names=arrays["names"])
    with pytest.raises(DataError, match="lacks fake"):
        load_pool(path, scratch=tmp_path, memory_bytes=1)
    np.savez(path, **{**arrays, "fake": np.array([{}], dtype=object)})
    with pytest.raises(DataError, match="objects"):
        load_pool(path, scratch=tmp_path, memory_bytes=1)


def test_frechet_of_a_pool(arrays):
    real, fakes, names = arrays["real"], list(arrays["fake"]), ["a", "b", "c"]
    found = frechet_distances(real, fakes, names)
    assert found == {
        name: frechet_distance(real, fake) for name, fake in zip(names, fakes, strict=True)
    }


@pytest.mark.timeout(300)
def test_a_killed_score_continues(tmp_path: Path) -> None:
    """`ensgan score` under SIGKILL: the second run computes only the blocks that are missing."""
    rng = np.random.default_rng(5)
    pool = {
        "real": rng.normal(size=(500, 32)).astype(np.float32),
        "fake": rng.normal(size=(50, 500, 32)).astype(np.float32),
        "names": np.array([f"G@{i}" for i in range(50)]),
    }
    np.savez(tmp_path / "pool.npz", **pool)
    command = [sys.executable, "-m", "ensgan", "score", "pool.npz", "-o", "scores.npz"]
    folder = tmp_path / ".scores.npz.blocks"
    first = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while first.poll() is None and len(list(folder.glob("block-*.npz"))) < 5:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "scores.npz").exists(), "the first run was to be killed half-way"
    kept = len(list(folder.glob("block-*.npz")))
    assert kept >= 5
    computed = []

    def counting(function, tasks):
        for task in tasks:
            if isinstance(function, blocks.BlockScorer):
                computed.append(task)
            yield function(task)

    fakes, names = list(pool["fake"]), pool["names"].tolist()
    resumed = measure_pool(pool["real"], fakes, names, checkpoint=folder, mapper=counting).scores
    groups = -(-50 // 16)
    assert len(computed) == groups + groups * (groups + 1) // 2 - kept
    again = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert not folder.exists()
    scores = PoolScores.load(tmp_path / "scores.npz")
    assert np.array_equal(scores.directed, resumed.directed, equal_nan=True)
    assert np.array_equal(scores.masks, resumed.masks)
