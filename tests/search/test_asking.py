"""Optuna's samplers asked by rounds: they go where it was good, and repeat themselves."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ensgan.config.vary import SEARCHES
from ensgan.search.optuna import Told, ask

DRAWN: dict[str, Any] = {"rate": {"log": [0.2, 5.0]}, "width": [0.5, 1.0], "kind": ["b", "a"]}
SIZE = 5
QUICK = [pytest.param(name, marks=[pytest.mark.slow] * (name == "gp")) for name in SEARCHES]
"""A Gaussian process takes half a second per trial."""


def worth(values: Mapping[str, Any]) -> float:
    """Best at a rate of 3 and the larger width."""
    return -abs(math.log(values["rate"] / 3)) - (values["width"] == 0.5)


def at_random(seed: int, count: int = SIZE) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {
            "rate": math.exp(draw.uniform(math.log(0.2), math.log(5.0))),
            "width": draw.choice([0.5, 1.0]),
            "kind": draw.choice("ab"),
        }
        for _ in range(count)
    ]


def told(values: Mapping[str, Any]) -> Told:
    return Told(values, worth(values))


def asked(
    rounds: list[list[Told]],
    sampler: str,
    seed: int = 0,
    count: int = SIZE,
    is_welcome: Callable[[Mapping[str, Any]], bool] = lambda values: True,
    drawn: Mapping[str, Any] = DRAWN,
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def accept(values: Mapping[str, Any]) -> bool:
        if values in found or not is_welcome(values):
            return False
        found.append(dict(values))
        return True

    size = ask(rounds, drawn, (), accept, sampler=sampler, seed=seed, count=count)
    assert size == len(found) <= count
    return found


def searched(sampler: str, seed: int, rounds: int) -> list[float]:
    """Worths of all rounds after the first, which is random."""
    trials = [[told(values) for values in at_random(seed)]]
    for number in range(rounds):
        trials.append([told(v) for v in asked(trials, sampler, 100 * seed + number)])
    return [each.worth or 0.0 for tried in trials[1:] for each in tried]


@pytest.mark.parametrize("sampler", QUICK)
def test_the_better_region_is_drawn_more_often_than_at_random(sampler: str) -> None:
    seeds, rounds = (2, 2) if sampler == "gp" else (4, 4)
    found = [value for seed in range(seeds) for value in searched(sampler, seed, rounds)]
    chance = [worth(values) for values in at_random(9, 4000)]
    good = sorted(chance)[len(chance) * 3 // 4]  # a quarter of random draws are as good
    assert sum(value >= good for value in found) / len(found) > 0.35
    assert sum(found) / len(found) > sum(chance) / len(chance)


@pytest.mark.parametrize("sampler", SEARCHES)
def test_who_asks_again_is_told_the_same(sampler: str) -> None:
    rounds = [[told(values) for values in at_random(1)]]
    first = asked(rounds, sampler, 5, 3)
    assert asked(rounds, sampler, 5, 3) == first
    assert asked(rounds, sampler, 6, 3) != first
    for values in first:
        assert 0.2 <= values["rate"] <= 5.0
        assert values["width"] in (0.5, 1.0)
        assert values["kind"] in "ab"


@pytest.mark.parametrize("sampler", QUICK)
def test_what_costs_little_is_drawn_more_often_too(sampler: str) -> None:
    drawn = {"rate": {"log": [0.2, 5.0]}, "size": {"uniform": [1.0, 8.0]}}

    def of(values: Mapping[str, Any]) -> Told:
        return Told(values, -abs(math.log(values["rate"] / 3)), values["size"])

    found: list[Told] = []
    for seed in range(1 if sampler == "gp" else 6):
        draw = random.Random(seed)
        trials = [[of({**each, "size": draw.uniform(1, 8)}) for each in at_random(seed, 6)]]
        for number in range(3):
            values = asked(trials, sampler, 10 * seed + number, 6, drawn=drawn)
            trials.append([of(each) for each in values])
        found += [each for tried in trials[1:] for each in tried]
    assert sum(each.cost for each in found) / len(found) < 4.0  # 4.5 at random
    assert sum(each.worth or 0.0 for each in found) / len(found) > -1.05  # -1.2 at random


@pytest.mark.parametrize("sampler", SEARCHES)
def test_failures_are_told_too_and_all_that_failed_is_no_end(sampler: str) -> None:
    failed = [[Told(values, None) for values in at_random(2)]]
    assert len(asked(failed, sampler, count=3)) == 3
    mixed = [*failed, [told(values) for values in at_random(3, 1)]]
    assert len(asked(mixed, sampler, count=3)) == 3


@pytest.mark.parametrize("sampler", SEARCHES)
def test_where_nothing_else_is_to_be_found_fewer_come(sampler: str) -> None:
    drawn = {"width": [0.5, 1.0], "kind": ["b", "a"]}
    known = {"width": 1.0, "kind": "a"}
    rounds = [[Told(known, 1.0)]]
    found = asked(rounds, sampler, count=5, drawn=drawn, is_welcome=lambda v: v != known)
    assert len(found) == 3
