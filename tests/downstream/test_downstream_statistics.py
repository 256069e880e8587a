"""Rank correlation and its interval, and areas under the curve on other test images."""

from __future__ import annotations

import numpy as np
import pytest

from ensgan.downstream import rank_correlation
from ensgan.downstream.statistics import RESAMPLES, resampled_auc
from ensgan.errors import InputError


def test_rho_is_that_of_scipy_with_ties() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, 25).astype(float)
    y = x + rng.normal(0, 2, 25)
    found = rank_correlation(x, y)
    assert found.rho == pytest.approx(spearmanr(x, y).statistic)
    assert found.low < found.rho < found.high
    assert found.pairs == 25
    assert rank_correlation(x, y) == found


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Independent pairs: the truth is 0, and 19 of 20 intervals should hold it."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        found = rank_correlation(rng.normal(size=30), rng.normal(size=30), rounds=300)
        held += found.low <= 0 <= found.high
    assert 85 <= held <= 100


def test_monotone_pairs_and_too_few() -> None:
    up = rank_correlation([1, 2, 3, 4], [1, 4, 9, 16])
    assert (up.rho, up.high) == (pytest.approx(1), pytest.approx(1))
    assert rank_correlation([1, 2, 3], [5, 5, 5]).rho is None
    assert rank_correlation([1, 2], [1, 2]).rho is None
    with pytest.raises(InputError, match="finite"):
        rank_correlation([1, 2, 3], [1, 2, float("nan")])
    with pytest.raises(InputError, match="3 and 2"):
        rank_correlation([1, 2, 3], [1, 2])


@pytest.mark.parametrize("classes", [2, 3])
def test_resampled_areas_are_scikit_learns_on_the_same_images(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.metrics import roc_auc_score

    monkeypatch.setattr("ensgan.downstream.statistics.RESAMPLES", 3)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, 90)
    chances = rng.dirichlet(np.ones(classes), 90).round(1) + 0.3 * np.eye(classes)[labels]
    chances /= chances.sum(axis=1, keepdims=True)  # with ties
    found = resampled_auc(labels, chances)
    rng = np.random.default_rng(90)
    for area in found:
        rows = np.concatenate(
            [
                rng.choice(rows, len(rows))
                for rows in (np.flatnonzero(labels == c) for c in range(classes))
            ]
        )
        of = chances[rows, 1] if classes == 2 else chances[rows]
        assert area == pytest.approx(roc_auc_score(labels[rows], of, multi_class="ovr"), abs=1e-6)


def test_their_spread_is_that_of_other_test_splits() -> None:
    """Against Hanley and McNeil's (1982) standard error of an area of .8 with 100 and 60 images."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [100, 60])
    chances = 1 / (1 + np.exp(-rng.normal(labels * 1.19, 1)))
    found = np.array(resampled_auc(labels, np.stack([1 - chances, chances], 1)))
    area = found.mean()
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + 59 * (q1 - area**2) + 99 * (q2 - area**2)) / (100 * 60))
    assert len(found) == RESAMPLES and found.std() == pytest.approx(error, rel=0.2)
