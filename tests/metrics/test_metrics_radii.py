"""Radii in one pass over the columns, whatever the memory; and the last, exact comparison."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ensgan.errors import InputError
from ensgan.metrics import prdc
from ensgan.metrics.exact_distance import exact_squares
from ensgan.metrics.features import Frame
from ensgan.metrics.knn import Backend
from ensgan.metrics.radii import measure_balls

RNG = np.random.default_rng(6)


def by_integers(points: np.ndarray, k: int) -> np.ndarray:
    whole = points.astype(np.int64)
    squared = np.square(whole[:, None] - whole[None]).sum(axis=2)
    np.fill_diagonal(squared, np.iinfo(np.int64).max)
    return np.sort(squared, axis=1)[:, k - 1]


def clusters() -> np.ndarray:
    """Two clusters that float32 sees as two points, some copies, and one point far from all."""
    corners = np.repeat([[0, 0, 0], [2**28, 0, -(2**28)]], 150, axis=0)
    points = corners + RNG.integers(-20, 20, corners.shape)
    points[10:14] = points[10]
    points[299] = 2**30
    return RNG.permutation(points).astype(np.float64)


@pytest.mark.parametrize(
    "points",
    [
        clusters(),
        RNG.integers(0, 4, (700, 3)).astype(np.float32),
        RNG.integers(-1000, 1000, (700, 40)).astype(np.float32),
    ],
    ids=["clusters", "grid", "wide"],
)
@pytest.mark.parametrize("memory_bytes", [1 << 14, 1 << 20, 1 << 30])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("card", [None, "cpu"], ids=["host", "as on a card"])
def test_radii_by_integers_under_any_memory(points, memory_bytes: int, k: int, card) -> None:
    # What a card does at once is not worth doing for less.
    memory = memory_bytes if card is None else 32 * memory_bytes
    balls = measure_balls(points, k, Backend(card), memory_bytes=memory)
    np.testing.assert_array_equal(balls.squared, by_integers(points, k))
    rims = np.square(points.astype(np.int64) - points[balls.neighbour].astype(np.int64)).sum(axis=1)
    np.testing.assert_array_equal(rims, balls.squared)
    assert (balls.neighbour != np.arange(len(points))).all()


def test_no_point_is_placed_twice_in_memory_and_few_times_outside(monkeypatch) -> None:
    points = RNG.normal(size=(600, 32)).astype(np.float32)
    placed = []
    plain = Frame.place

    def counted(self: Frame, features: np.ndarray) -> np.ndarray:
        placed.append(len(features))
        return plain(self, features)

    monkeypatch.setattr(Frame, "place", counted)
    measure_balls(points, 5, Backend())
    assert sum(placed) == 600
    placed.clear()
    measure_balls(points, 5, Backend(), memory_bytes=600 * 32 * 12 // 4)  # a quarter fits
    runs = 5  # of columns: each asks for the rows that are not its own
    assert sum(placed) <= 600 * (1 + runs)


def squares_by_fractions(origins: np.ndarray, others: np.ndarray) -> list[Fraction]:
    return [
        sum((Fraction(float(x)) - Fraction(float(y))) ** 2 for x, y in zip(a, b, strict=True))
        for a, b in zip(origins, others, strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float64,
        (3, 4, 3),
        elements=st.one_of(
            st.floats(-1e300, 1e300), st.integers(-5, 5).map(float), st.floats(-1, 1, width=16)
        ),
    )
)
def test_exact_squares_are_exact_up_to_their_unit(values: np.ndarray) -> None:
    origins, *others = values
    found = exact_squares(origins, *others)
    expected = [squares_by_fractions(origins, other) for other in others]
    pairs = [
        (int(whole), fraction)
        for squares, fractions in zip(found, expected, strict=True)
        for whole, fraction in zip(squares, fractions, strict=True)
    ]
    (units,) = {Fraction(whole, 1) / fraction for whole, fraction in pairs if fraction} or {0}
    assert all(whole == units * fraction for whole, fraction in pairs)


def test_small_integers_stay_in_machine_words_and_floats_do_not() -> None:
    grid = RNG.integers(-9, 9, (2, 5, 64)) / 8
    assert exact_squares(*grid)[0].dtype == np.int64
    assert exact_squares(*(grid / 3))[0].dtype == object


def test_values_too_large_to_subtract_are_refused() -> None:
    with pytest.raises(InputError, match=r"fake has values of up to 1e\+308.*power of two"):
        prdc(np.eye(9), 1e308 * np.eye(9))
