"""The other forms of the objectives against stacking the samples, and their whole fronts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ensgan.errors import InputError
from ensgan.metrics import frechet_distance, measure_pool, score_pool
from ensgan.search import (
    Evaluator,
    ObjectiveTables,
    frechet_tables,
    pareto_front,
    search,
    tables_from_precision_recall,
    union_moments,
)
from ensgan.types import Front, PoolScores

MEMBERS = 9


def features() -> tuple[np.ndarray, list[np.ndarray]]:
    random = np.random.default_rng(3)
    real = random.normal(size=(60, 4)) * (3.0, 2.0, 1.0, 0.5) + 7.0
    sizes = (30, 41, 25, 33, 30, 28, 36, 22, 31)
    fakes = [
        random.normal(size=(n, 4)) * random.uniform(0.5, 3.0, 4) + 7.0 + random.normal(size=4)
        for n in sizes
    ]
    return real, fakes


@pytest.fixture(scope="module")
def pool() -> tuple[np.ndarray, list[np.ndarray], PoolScores]:
    real, fakes = features()
    names = [f"G{i // 3}@{1000 * (i % 3 + 1)}" for i in range(MEMBERS)]
    return real, fakes, score_pool(real, fakes, names)


@pytest.fixture(scope="module")
def forms(pool: tuple[np.ndarray, list[np.ndarray], PoolScores]) -> dict[str, ObjectiveTables]:
    real, fakes, scores = pool
    return {
        "frechet": frechet_tables(scores, union_moments(real, fakes)),
        "precision": tables_from_precision_recall(
            scores, measure_pool(real, fakes, scores.names).pair_precision
        ),
    }


def check_front(front: Front, tables: ObjectiveTables) -> None:
    codes = np.arange(1 << MEMBERS)
    subsets = (codes[:, None] >> np.arange(MEMBERS) & 1).astype(bool)
    values = Evaluator(tables)(subsets[subsets.sum(axis=1) >= 2])
    every = np.column_stack((values.first, values.second))
    expected = every[pareto_front(every)]
    found = np.array([(point.first, point.second) for point in front])
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("form", ["frechet", "precision"])
@pytest.mark.parametrize("sampler", ["pareto-local", "exhaustive", "ensemble"])
def test_every_strategy_finds_the_whole_front(
    pool: tuple[np.ndarray, list[np.ndarray], PoolScores],
    forms: dict[str, ObjectiveTables],
    form: str,
    sampler: str,
) -> None:
    trials = 150 if sampler == "ensemble" else None
    front = search(pool[2], sampler=sampler, objectives=forms[form], trials=trials)
    check_front(front, forms[form])
    assert front.objectives == tuple(axis.text for axis in forms[form].axes)
    assert Front.from_json(front.to_json()) == front


def test_frechet_of_a_union_equals_the_stacked_samples(
    pool: tuple[np.ndarray, list[np.ndarray], PoolScores], forms: dict[str, ObjectiveTables]
) -> None:
    real, fakes, scores = pool
    front = search(scores, objectives=forms["frechet"])
    assert len(front) > 3
    for point in front:
        members = [scores.names.index(name) for name in point.members]
        measures = dict(point.measures)
        stacked = np.concatenate([fakes[g] for g in members])
        assert measures["frechet"] == pytest.approx(frechet_distance(real, stacked), abs=1e-9)
        pairs = [
            frechet_distance(fakes[g], fakes[h]) for g, h in itertools.combinations(members, 2)
        ]
        assert measures["frechet_between"] == pytest.approx(np.mean(pairs), abs=1e-9)


def test_moves_follow_the_form(forms: dict[str, ObjectiveTables]) -> None:
    evaluator = Evaluator(forms["frechet"])
    near = evaluator.moves([1, 4, 7], np.delete(np.arange(len(evaluator)), [1, 4, 7]))
    rows, columns = near.values.first.shape
    subsets = [near.subset(i, j) for i in range(rows) for j in range(columns)]
    fresh = evaluator(evaluator.subsets(subsets))
    np.testing.assert_allclose(near.values.first.ravel(), fresh.first, atol=1e-12)
    with pytest.raises(InputError, match="density and coverage only"):
        evaluator.evaluate((0, 1), (0.5, 0.5))


def test_principal_directions_leave_the_distance_in_their_space() -> None:
    real, fakes = features()
    moments = union_moments(real, fakes, components=2)
    axes = np.linalg.svd(real - real.mean(axis=0), full_matrices=False)[2][:2]
    chosen = np.zeros((1, MEMBERS), bool)
    chosen[0, [0, 5]] = True
    stacked = np.concatenate((fakes[0], fakes[5]))
    expected = frechet_distance(real @ axes.T, stacked @ axes.T)
    assert moments.distances(chosen)[0] == pytest.approx(expected, abs=1e-9)


def inside(points: np.ndarray, balls: np.ndarray, k: int = 5) -> np.ndarray:
    own = np.linalg.norm(balls[:, None] - balls[None], axis=2)
    np.fill_diagonal(own, np.inf)
    radius = np.sort(own, axis=1)[:, k - 1]
    return (np.linalg.norm(points[:, None] - balls[None], axis=2) < radius).any(axis=1)


def test_precision_of_a_union_equals_the_stacked_samples(
    pool: tuple[np.ndarray, list[np.ndarray], PoolScores], forms: dict[str, ObjectiveTables]
) -> None:
    real, fakes, scores = pool
    for point in search(scores, objectives=forms["precision"]):
        members = [scores.names.index(name) for name in point.members]
        stacked = np.concatenate([fakes[g] for g in members])
        reached = np.any([inside(real, fakes[g]) for g in members], axis=0)
        assert dict(point.measures) == pytest.approx(
            {"precision": inside(stacked, real).mean(), "recall": reached.mean()}, abs=1e-12
        )
        both = []
        for g, h in itertools.combinations(members, 2):
            a, b = inside(fakes[h], fakes[g]).mean(), inside(fakes[g], fakes[h]).mean()
            both.append(2 * a * b / (a + b) if a + b else 0.0)
        assert point.second == pytest.approx(np.mean(both), abs=1e-12)


def test_tables_of_another_pool_are_refused(
    pool: tuple[np.ndarray, list[np.ndarray], PoolScores],
) -> None:
    real, fakes, scores = pool
    with pytest.raises(InputError, match="that were scored"):
        frechet_tables(scores, union_moments(real, fakes[1:]))
    with pytest.raises(InputError, match="that were scored"):
        tables_from_precision_recall(
            scores, measure_pool(real, fakes[:2], scores.names[:2]).pair_precision
        )
    with pytest.raises(InputError, match="at least 1"):
        union_moments(real, fakes, components=0)
