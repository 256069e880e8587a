"""How many GANs a budget carries into each round, and what their snapshots cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensgan.sweep.planning.pace import FINALISTS, Costs, places, widths


def paid(gans: int, rounds: int, affordable: float) -> tuple[int, ...]:
    return widths(rounds, [affordable] * gans)


def test_a_budget_for_all_carries_all_through() -> None:
    assert paid(22, 5, 110) == (22,) * 5
    assert paid(22, 5, 1e9) == (22,) * 5
    assert paid(1, 3, 3) == (1, 1, 1)


def test_a_budget_for_nearly_all_begins_all() -> None:
    found = paid(22, 5, 95)
    assert found[:2] == (22, 22) and found[-1] < 22 and 90 <= sum(found) <= 95


def test_a_small_budget_begins_fewer() -> None:
    assert paid(22, 5, 55) == (14, 14, 11, 9, 7)
    assert paid(22, 5, 27) == (6, 6, 5, 4, 3)
    assert paid(8, 5, 10) == (2,) * 5
    assert paid(8, 5, 0.5) == (2,) * 5


@given(st.integers(1, 40), st.integers(1, 8), st.floats(0, 400))
def test_widths_fall_and_fit(gans: int, rounds: int, affordable: float) -> None:
    found = paid(gans, rounds, affordable)
    assert len(found) == rounds and list(found) == sorted(found, reverse=True)
    assert min(FINALISTS, gans) <= found[-1] and found[0] <= gans
    assert sum(found) <= max(affordable, min(FINALISTS, gans) * rounds)
    more = paid(gans, rounds, affordable + 10)
    assert sum(more) >= sum(found)


def test_the_first_gans_may_be_the_dear_ones() -> None:
    assert paid(8, 5, 20) == (5, 5, 4, 3, 3)
    assert widths(5, [15] * 7 + [20]) == (3, 3, 2, 2, 2)


def test_costs_are_measured_heard_or_inferred() -> None:
    costs = Costs({"A": 5, "B": 5}, {"A": 1.0, "B": 3.0})
    assert costs.each() == {} and costs.affordable(2) == []
    costs.hear("A", 0.2)
    assert costs.each() == pytest.approx({"A": 0.2, "B": 0.6})
    assert costs.affordable(2) == pytest.approx([10, 5])
    costs.measure("A", 0.4)
    costs.measure("A", 0.2)
    assert costs.affordable(3) == pytest.approx([10, 5])
    costs.measure("B", 0.3)
    assert costs.affordable(3) == pytest.approx([10, 10])


def test_without_efforts_all_cost_the_same() -> None:
    costs = Costs({"A": 5, "B": 5}, {})
    costs.measure("A", 1)
    assert costs.affordable(4) == pytest.approx([4, 4])


def test_places_open_as_the_round_before_is_trained() -> None:
    assert places((4, 4, 2), [0, 0, 0, 0, 0], []) == [4, 4, 0]
    assert places((4, 4, 2), [0, 0, 0, 0, 0], [0, 0]) == [2, 4, 0]
    assert places((4, 4, 2), [2, 2, 1, 0, 0], []) == [1, 2, 1]
    assert places((4, 4, 2), [2, 2, 1, 0, 0], [2]) == [1, 2, 0]


def test_who_has_begun_is_judged_by_two_snapshots_though_costs_were_underestimated() -> None:
    assert places((2, 2, 2), [1, 1, 1], []) == [-1, 3, 0]
