"""The pools of the study: their sweep files hold, and scripts write what they read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ensgan.sweep.planning.sweep_file import load_sweep
from ensgan.sweep.resolving import resolve

ROOT = Path(__file__).resolve().parents[1]
SWEEPS = sorted((ROOT / "sweeps").glob("study-*.yaml"))


def script(name: str) -> ModuleType:
    place = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert place is not None and place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def test_images_of_a_pool_become_banks_and_their_sweep(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 32, 32), np.uint8)
    labels = np.arange(12, dtype=np.int8).reshape(2, 6) % 2
    pool = tmp_path / "images.npz"
    np.savez(pool, names=np.array(["SNGAN@1", "SNGAN@2"]), images=images, labels=labels)
    spec = load_sweep(script("pool_of_images").write(pool, tmp_path / "pool"))
    assert [member.name for member in spec.members] == ["SNGAN-1", "SNGAN-2"]
    for member, pictures, classes in zip(spec.members, images, labels, strict=True):
        assert member.images is not None
        with np.load(tmp_path / "pool" / member.images) as bank:
            assert np.array_equal(bank["images"], pictures)
            assert np.array_equal(bank["labels"], classes)


def test_the_digits_are_a_data_set_of_ten_classes(tmp_path: Path) -> None:
    digits = script("digits")
    assert digits.write(tmp_path) == tmp_path / "digits.npz"
    resolved = resolve(load_sweep(ROOT / "sweeps" / "study-digits.yaml"), tmp_path)
    splits = resolved.dataset.splits()
    assert [len(split) for split in splits.values()] == [1078, 359, 360]
    for split in splits.values():
        counts = np.bincount(split.labels, minlength=10)
        assert counts.min() > 0.8 * counts.max() and split.images.shape[1:] == (32, 32)
    every = np.concatenate([split.images for split in splits.values()])
    assert every.max() == 255 and every.min() == 0


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_pools_are_trained_alike(path: Path) -> None:
    spec, first = load_sweep(path), load_sweep(SWEEPS[0])
    assert spec.name == path.stem
    # That on PneumoniaMNIST was trained before averages were fitted, with larger batches.
    other = {"ema", "batch", "learning_rate", "overrides"} if "pneumonia" in path.stem else set()
    assert spec.train.model_dump(exclude=other) == first.train.model_dump(exclude=other)
    assert spec.evaluate == first.evaluate
