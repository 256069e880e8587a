"""Exhaustive search proves what it says; pymoo runs inside the same ledger."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from search_pool import made_up_pool

from ensgan.errors import InputError
from ensgan.search import Evaluator, hypervolume, search


@pytest.mark.parametrize(("seed", "largest"), [(0, 4), (1, 5), (2, 3)])
def test_exhaustive_front_equals_brute_force(seed: int, largest: int) -> None:
    scores = made_up_pool(seed, members=16)
    front = search(scores, sampler="exhaustive", max_size=largest)
    assert front.sampler == f"exhaustive:2-{largest}"
    evaluator = Evaluator(scores)
    subsets = [
        subset
        for size in range(2, largest + 1)
        for subset in itertools.combinations(range(16), size)
    ]
    values = evaluator(evaluator.subsets(subsets))
    expected = hypervolume(np.column_stack((values.first, values.second)))
    assert front.hypervolume == pytest.approx(expected, abs=1e-12)


def test_bounds_alone_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from ensgan.search import own_samplers as module

    monkeypatch.setattr(module, "_HEAD_START", 0)
    scores = made_up_pool(5, members=15)
    front = search(scores, sampler="exhaustive", max_size=4, include=["GAN0@20000"])
    evaluator = Evaluator(scores)
    subsets = [
        (0, *subset)
        for size in range(1, 4)
        for subset in itertools.combinations(range(1, 15), size)
    ]
    values = evaluator(evaluator.subsets(subsets))
    expected = hypervolume(np.column_stack((values.first, values.second)))
    assert front.hypervolume == pytest.approx(expected, abs=1e-12)
    assert front.trials < len(subsets)


def test_exhaustive_without_an_end_is_refused() -> None:
    with pytest.raises(InputError, match="does not end"):
        search(made_up_pool(0, members=40), sampler="exhaustive")


def test_a_spent_budget_proves_nothing_more() -> None:
    front = search(made_up_pool(0, members=40), sampler="exhaustive", trials=2000)
    assert front.sampler in {"exhaustive", "exhaustive:2-2", "exhaustive:2-3"}


def test_pymoo_counts_its_trials_and_repeats_itself() -> None:
    pytest.importorskip("pymoo")
    scores = made_up_pool(3, members=20)
    first = search(scores, sampler="pymoo", trials=500, seed=4, max_size=6)
    second = search(scores, sampler="pymoo", trials=500, seed=4, max_size=6)
    assert first.points == second.points
    assert 500 <= first.trials < 600
    assert all(len(point.members) <= 6 for point in first)
    best = search(scores, trials=20_000, max_size=6).hypervolume
    assert 0.8 * best < first.hypervolume <= best + 1e-9
