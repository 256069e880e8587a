"""On phantoms the truth is known: an ensemble that reaches all modes teaches more than one of 4."""

from __future__ import annotations

import numpy as np
import pytest

from ensgan.data import load_dataset
from ensgan.downstream import ClassifierSettings, MemoryBank, Strategy, run_repeat, summarise
from ensgan.types import Dataset, Samples

FOUR = (0, 1, 6, 7)


def members_by_mode(dataset: Dataset) -> MemoryBank:
    """Two perfect generators: one of every mode, one of four modes (two of each class)."""
    train, modes = dataset.train, dataset.modes["train"]
    four = np.isin(modes, FOUR)
    assert set(train.labels[four]) == {0, 1}
    return MemoryBank(
        {"Twelve@1": train, "Four@1": Samples(train.images[four], train.labels[four])}
    )


def auc_by_member(
    repeats: int, settings: ClassifierSettings, options: dict[str, int]
) -> dict[str, float]:
    dataset = load_dataset("phantom", options=options)
    bank = members_by_mode(dataset)
    strategies = [Strategy("twelve", ("Twelve@1",)), Strategy("four", ("Four@1",))]
    results = [
        run_repeat(strategy, repeat, dataset=dataset, bank=bank, settings=settings, seed=0)
        for strategy in strategies
        for repeat in range(repeats)
    ]
    table = summarise(results, reference="twelve")
    return {row.strategy: row.metrics["auc"].mean for row in table}


def test_all_modes_beat_four() -> None:
    settings = ClassifierSettings(
        epochs=2, batch=32, width=8, images_per_epoch=256, learning_rate=3e-3
    )
    auc = auc_by_member(1, settings, {"n_train": 600, "n_val": 48, "n_test": 160})
    assert auc["twelve"] > auc["four"] + 0.03


@pytest.mark.slow
def test_all_modes_beat_four_over_repeats() -> None:
    auc = auc_by_member(3, ClassifierSettings(epochs=4, width=8, images_per_epoch=900), {})
    assert auc["twelve"] > 0.95
    assert auc["twelve"] > auc["four"] + 0.1
