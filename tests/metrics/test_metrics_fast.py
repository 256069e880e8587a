from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ensgan.errors import InputError
from ensgan.metrics import blocks, choice, density_coverage, measure_pool, score_pool
from ensgan.metrics.choice import make_backend
from ensgan.metrics.knn import TorchBackend


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(3)
    real = rng.normal(size=(80, 5)).astype(np.float32)
    fakes = [(rng.normal(size=(70, 5)) * spread).astype(np.float32) for spread in (1, 0.7, 1.3)]
    return real, fakes, ["a", "b", "c"]


def test_fast_scores_come_with_their_error(pool):
    real, fakes, names = pool
    exact = measure_pool(real, fakes, names, k=3)
    fast = measure_pool(real, fakes, names, k=3, fast=True)
    assert exact.fast_error is None and fast.fast_error is not None
    assert fast.fast_error.pairs == 6  # a small pool is checked whole
    true = np.abs(fast.scores.density - exact.scores.density).max()
    assert fast.fast_error.density >= true
    assert fast.fast_error.density < 0.02 and fast.fast_error.d < 0.02


def test_the_error_is_what_a_wrong_product_does(pool, monkeypatch):
    """With coarse products the counts differ, and the measured error says by how much."""
    real, fakes, names = pool
    exact = score_pool(real, fakes, names, k=3)
    right = TorchBackend.block

    def coarse(self, rows, columns):
        block = right(self, rows, columns)
        return block.to(torch.bfloat16).to(block.dtype) if self.fast else block

    monkeypatch.setattr(TorchBackend, "block", coarse)
    measures = measure_pool(real, fakes, names, k=3, fast=True, backend="torch")
    error = measures.fast_error
    assert error is not None
    off = np.abs(measures.scores.density - exact.density).max()
    overlap = np.nanmax(np.abs(measures.scores.directed - exact.directed))
    assert off > 0 and error.density >= off
    assert error.d >= overlap > 0
    assert "12 pairs" not in str(error) and f"{error.pairs} pairs" in str(error)
    json.dumps(error.to_json(), allow_nan=False)


def test_a_large_pool_is_checked_on_a_few_pairs():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(12, 3))
    fakes = [rng.normal(size=(8, 3)) for _ in range(30)]
    error = measure_pool(real, fakes, [str(i) for i in range(30)], k=2, fast=True).fast_error
    assert error is not None and error.pairs == 12


def test_fast_and_exact_blocks_are_kept_apart(pool, tmp_path):
    real, fakes, names = pool
    score_pool(real, fakes, names, k=3, fast=True, checkpoint=tmp_path)
    stored = len(list(tmp_path.glob("block-*.npz")))
    exact = score_pool(real, fakes, names, k=3, checkpoint=tmp_path)
    assert len(list(tmp_path.glob("block-*.npz"))) > stored
    assert exact.density[0] == density_coverage(real, fakes[0], 3).density


def test_damaged_files_of_an_interrupted_run_are_made_again(pool, tmp_path):
    real, fakes, names = pool
    whole = score_pool(real, fakes, names, k=3, checkpoint=tmp_path)
    files = sorted(tmp_path.glob("*.npz"))
    assert {file.name.partition("-")[0] for file in files} == {"block", "radii"}
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    again = score_pool(real, fakes, names, k=3, checkpoint=tmp_path)
    assert np.array_equal(again.density, whole.density)
    assert np.array_equal(again.directed, whole.directed, equal_nan=True)


def test_radii_are_not_measured_twice(pool, tmp_path, monkeypatch):
    real, fakes, names = pool
    whole = score_pool(real, fakes, names, k=3, checkpoint=tmp_path)
    monkeypatch.setattr("ensgan.metrics.survey.measure_balls", None)
    again = score_pool(real, fakes, names, k=3, checkpoint=tmp_path)
    assert np.array_equal(again.masks, whole.masks)
    monkeypatch.undo()
    other = score_pool(real * 2, fakes, names, k=3, checkpoint=tmp_path)
    assert other.density[0] == density_coverage(real * 2, fakes[0], 3).density


def test_the_process_keeps_its_precision(pool):
    real, fakes, names = pool
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        scores = score_pool(real, fakes, names, k=3)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert np.array_equal(scores.density, score_pool(real, fakes, names, k=3).density)


@pytest.fixture
def fresh_choice(tmp_path, monkeypatch):
    monkeypatch.setenv("ENSGAN_CACHE", str(tmp_path))
    choice.chosen.cache_clear()
    yield tmp_path
    choice.chosen.cache_clear()


def test_auto_is_measured_once_and_kept(fresh_choice, monkeypatch):
    pytest.importorskip("faiss")
    first = choice.chosen()
    assert first.name in ("torch", "faiss")
    assert "torch" in first.reason and "faiss" in first.reason and "ms" in first.reason
    choice.chosen.cache_clear()
    monkeypatch.setattr(choice, "compare", None)
    assert choice.chosen() == first
    assert make_backend("auto").name == first.name


def test_the_faster_backend_is_taken_only_when_it_clearly_is(monkeypatch):
    pytest.importorskip("faiss")
    times = {"torch": 1.0, "faiss": 0.95}
    monkeypatch.setattr(choice, "_seconds", lambda backend: times[backend.name])
    assert choice.compare().name == "torch"
    times["faiss"] = 0.5
    found = choice.compare()
    assert found.name == "faiss" and "torch 1e+03 ms" in found.reason


def test_a_faiss_that_fails_is_left_out(monkeypatch):
    def seconds(backend):
        if backend.name == "faiss":
            raise RuntimeError("no kernel image is available")
        return 1.0

    pytest.importorskip("faiss")
    monkeypatch.setattr(choice, "_seconds", seconds)
    found = choice.compare()
    assert found.name == "torch" and "no kernel image" in found.reason


def test_without_faiss_nothing_is_measured(fresh_choice, monkeypatch):
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(choice, "compare", None)
    found = choice.chosen()
    assert found.name == "torch" and "not installed" in found.reason


def test_unknown_backends_are_named():
    with pytest.raises(InputError, match="tourch"):
        make_backend("tourch")


def test_a_task_says_where_its_block_is_kept(pool, tmp_path):
    real, fakes, names = pool
    tasks = []

    def spying(function, items):
        items = list(items)
        tasks.extend(item for item in items if isinstance(item, blocks.BlockTask))
        return map(function, items)

    score_pool(real, fakes, names, k=3, checkpoint=tmp_path, mapper=spying)
    assert tasks and all(task.path.exists() for task in tasks)
