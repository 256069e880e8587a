"""Label consistency: who is doubtful, by rule and by a classifier of real images."""

from __future__ import annotations

import pytest

from ensgan.downstream import LabelConsistency


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
    # One class of twenty images in twenty-one: chance is high, and what is left is told.
    assert LabelConsistency(0.99, 0.91, shares, {}).tells
    assert not LabelConsistency(0.92, 0.91, shares, {}).tells
