"""The pools of the study: their sweep files hold, and the digits are what one of them reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ensgan.sweep.planning.sweep_file import load_sweep
from ensgan.sweep.resolving import resolve

ROOT = Path(__file__).resolve().parents[1]
SWEEPS = sorted((ROOT / "sweeps").glob("study-*.yaml"))


def test_the_digits_are_a_data_set_of_ten_classes(tmp_path: Path) -> None:
    place = importlib.util.spec_from_file_location("digits", ROOT / "scripts" / "digits.py")
    assert place is not None and place.loader is not None
    digits = importlib.util.module_from_spec(place)
    place.loader.exec_module(digits)
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
