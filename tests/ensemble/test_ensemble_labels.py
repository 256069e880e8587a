"""Which class each image has: asked for by number or name, for one image or for all."""

from pathlib import Path

import numpy as np
import pytest

import ensgan
from ensgan.errors import InputError


def test_labels_are_numbers_or_names_one_or_many(intact: Path) -> None:
    ensemble = ensgan.load_ensemble(str(intact))
    by_number = ensemble.sample(3, labels=[1, 1, 1], seed=4)
    for labels in (1, "pneumonia", ["pneumonia"] * 3, np.array([1, 1, 1]), np.int64(1)):
        again = ensemble.sample(3, labels=labels, seed=4)
        np.testing.assert_array_equal(again.images, by_number.images)
    mixed = ensemble.sample(2, labels=["normal", "pneumonia"])
    assert mixed.labels.tolist() == [0, 1]
    with pytest.raises(InputError, match="unknown class 'pneumnia': did you mean 'pneumonia'"):
        ensemble.sample(2, labels="pneumnia")
    with pytest.raises(InputError, match="give 2 labels, one class per image, not 3"):
        ensemble.sample(2, labels=[0, 1, 1])
    with pytest.raises(InputError, match=r"number or name of a class, not 0\.5"):
        ensemble.sample(2, labels=0.5)  # type: ignore[arg-type]


def test_an_ensemble_is_displayed_with_shares_and_licences(intact: Path) -> None:
    shown = ensgan.load_ensemble(intact)._repr_html_()
    for text in ("SNGAN@20", "0.5000", "intra_d", "SwAV weights: CC BY-NC 4.0"):
        assert text in shown
