"""Label consistency: who is doubtful, by rule and by a classifier of real images."""

from __future__ import annotations

import numpy as np
import pytest
from made_sweep import blobs, make_dataset

from ensgan import downstream
from ensgan.downstream import ClassifierSettings, LabelConsistency, MemoryBank, label_consistency
from ensgan.errors import DataError
from ensgan.types import Dataset, Samples


def doubtful(shares: dict[str, float], chance: float = 0.5, real: float = 0.9) -> str:
    found = LabelConsistency(real, 0.5, shares, dict.fromkeys(shares, chance))
    return "".join(found.doubtful())


@pytest.mark.parametrize(
    ("shares", "chance", "expected"),
    [
        ((0.9, 0.92, 0.88, 0.91, 0.7), 0.5, "E"),  # far below the others
        ((0.9, 0.92, 0.88, 0.91, 0.8), 0.5, ""),
        ((0.9, 0.95, 0.5, 0.7, 0.6), 0.5, "C"),  # wide spread: only what is at chance
        ((0.9, 0.95, 0.92, 0.05, 0.04, 0.08), 0.5, "DEF"),  # half of the pool
        ((0.9, 0.95, 0.5, 0.45, 0.05, 0.04, 0.08), 0.5, "CDEFG"),  # most of it
        ((0.9, 0.5, 0.2, 0.1), 0.5, "CD"),  # one alone above: of B nothing can be said
        ((0.6, 0.62, 0.49, 0.5, 0.51), 0.5, ""),  # nobody knows classes yet
        ((0.05, 0.04, 0.03), 0.5, "ABC"),  # all of them
        ((0.9, 0.8, 0.85, 0.1), 0.1, "D"),
    ],
)
def test_who_is_doubtful(shares: tuple[float, ...], chance: float, expected: str) -> None:
    assert doubtful(dict(zip("ABCDEFG", shares, strict=False)), chance) == expected


def test_a_classifier_that_cannot_tell_real_classes_says_nothing() -> None:
    shares = dict(zip("ABCD", (0.9, 0.9, 0.9, 0.1), strict=True))
    assert doubtful(shares, real=0.59) == "" and doubtful(shares, real=0.61) == "D"


SETTINGS = ClassifierSettings(width=4, epochs=8, batch=8)


def test_honest_swapped_collapsed_and_noisy_members() -> None:
    """Measured by a classifier that never sees the test split; order in the bank is no matter."""
    honest, again = blobs(600, 10), blobs(80, 11)
    order = np.argsort(honest.labels, kind="stable")  # all of class 0 first
    noise = np.random.default_rng(0).integers(0, 255, again.images.shape, dtype=np.uint8)
    members = {
        "honest": again,
        "sorted": Samples(honest.images[order], honest.labels[order]),
        "swapped": Samples(again.images, 1 - again.labels),
        "collapsed": Samples(np.repeat(again.images[:1], 80, 0), again.labels),
        "noise": Samples(noise, again.labels),
    }
    real = make_dataset()
    blind = Dataset(
        "toy",
        real.train,
        real.val,
        Samples(real.test.images[:1], real.test.labels[:1]),
        real.class_names,
    )
    found = [
        label_consistency(
            list(members), dataset=data, bank=MemoryBank(members), settings=SETTINGS, seed=0
        )
        for data in (real, blind)
    ]
    assert found[0] == found[1]
    assert found[0].real > 0.8 and min(found[0].members[n] for n in ("honest", "sorted")) > 0.8
    assert found[0].members["swapped"] == pytest.approx(1 - found[0].members["honest"])
    assert found[0].members["collapsed"] == 0.5
    assert found[0].doubtful() == ("swapped", "collapsed", "noise")


def test_one_class_has_nothing_to_tell() -> None:
    real = make_dataset()
    alone = [Samples(split.images, split.labels * 0) for split in real.splits().values()]
    with pytest.raises(DataError, match="one class only"):
        downstream.label_consistency(
            [],
            dataset=Dataset("toy", *alone, ("x",)),
            bank=MemoryBank({}),
            settings=SETTINGS,
            seed=0,
        )
