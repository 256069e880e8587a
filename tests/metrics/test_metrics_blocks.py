"""Finished work on disk, and what scoring does to the process."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from ensgan.errors import InputError
from ensgan.metrics import blocks, density_coverage, score_pool
from ensgan.metrics.knn import make_backend


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(3)
    real = rng.normal(size=(80, 5)).astype(np.float32)
    fakes = [(rng.normal(size=(70, 5)) * spread).astype(np.float32) for spread in (1, 0.7, 1.3)]
    return real, fakes, ["a", "b", "c"]


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
    monkeypatch.setattr("ensgan.metrics.radii_task.measure_balls", None)
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


def test_auto_is_torch_and_unknown_backends_are_named():
    assert make_backend("auto").name == make_backend("torch").name == "torch"
    with pytest.raises(InputError, match="tourch"):
        make_backend("tourch")


def test_faiss_that_is_missing_or_fails_on_its_gpu_is_one_sentence(monkeypatch, pool):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"needs faiss, which cannot be imported .*'torch'$"):
        make_backend("faiss")

    def fail(*_):
        raise RuntimeError("Error in StackDeviceMemory:\nCUDA error 2 out of memory")

    known = {"get_num_gpus": lambda: 1, "StandardGpuResources": object}
    fails = types.SimpleNamespace(**known, pairwise_distance_gpu=fail)
    monkeypatch.setitem(sys.modules, "faiss", fails)
    real, fakes, _ = pool
    sentence = r"^faiss fails on its GPU \(CUDA error 2 out of memory\): take backend 'torch'"
    with pytest.raises(InputError, match=sentence):
        density_coverage(real, fakes[0], backend="faiss")
    fails.StandardGpuResources = fail
    with pytest.raises(InputError, match=sentence):
        make_backend("faiss")


def test_a_task_says_where_its_block_is_kept(pool, tmp_path):
    real, fakes, names = pool
    tasks = []

    def spying(function, items):
        items = list(items)
        tasks.extend(item for item in items if isinstance(item, blocks.BlockTask))
        return map(function, items)

    score_pool(real, fakes, names, k=3, checkpoint=tmp_path, mapper=spying)
    assert tasks and all(task.path.exists() for task in tasks)
