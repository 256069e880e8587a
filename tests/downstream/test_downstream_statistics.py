"""Rank correlation and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from ensgan.downstream import rank_correlation
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
