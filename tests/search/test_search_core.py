"""Evaluator, Pareto tools and the samplers against brute force."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_pool import made_up_pool

from ensgan.errors import DataError, InputError
from ensgan.search import (
    Budget,
    Evaluator,
    hypervolume,
    pareto_front,
    pool_key,
    search,
)
from ensgan.search.pareto import Archive, CostArchive
from ensgan.types import Front, PoolScores, harmonic_mean

INSERTIONS = ((Archive, "concatenate", 2), (CostArchive, "append", 3))


def brute(scores: PoolScores, subset: tuple[int, ...], inter: str) -> tuple[float, float]:
    covered = np.unpackbits(scores.masks, axis=1)[:, : scores.n_real]
    density = np.average(scores.density[list(subset)], weights=scores.counts[list(subset)])
    coverage = covered[list(subset)].any(axis=0).mean()
    table = {
        "symmetric": lambda g, h: (scores.directed[g, h] + scores.directed[h, g]) / 2,
        "directed": lambda g, h: scores.directed[max(g, h), min(g, h)],
    }[inter]
    pairs = [table(g, h) for g, h in itertools.combinations(subset, 2)]
    return float(harmonic_mean(density, coverage)), float(np.mean(pairs))


def all_subsets(members: int) -> np.ndarray:
    codes = np.arange(1 << members)
    bits = (codes[:, None] >> np.arange(members) & 1).astype(bool)
    return bits[bits.sum(axis=1) >= 2]


@pytest.mark.parametrize("inter", ["symmetric", "directed"])
def test_batches_equal_the_definition(inter: str) -> None:
    scores = made_up_pool(3, members=21, points=131)
    evaluator = Evaluator(scores, inter=inter, objectives="paper")
    matrix = np.random.default_rng(0).random((200, 21)) < 0.4
    matrix[matrix.sum(axis=1) < 2, :2] = True
    values = evaluator(matrix)
    for row, chosen in enumerate(matrix):
        expected = brute(scores, tuple(np.flatnonzero(chosen)), inter)
        assert (values.first[row], values.second[row]) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 9))
def test_neighbours_equal_fresh_evaluation(seed: int, size: int) -> None:
    scores = made_up_pool(seed, members=13, points=int(64 + seed % 70))
    evaluator = Evaluator(scores, objectives="paper")
    members = np.random.default_rng(seed).choice(13, size, replace=False)
    near = evaluator.moves(members.tolist(), np.delete(np.arange(13), members))
    shape = near.values.first.shape
    assert shape == (size + 1, 14 - size)
    subsets = [near.subset(i, j) for i in range(shape[0]) for j in range(shape[1])]
    fresh = evaluator(evaluator.subsets(subsets))
    for field in ("first", "second", "mean", "coverage"):
        np.testing.assert_allclose(
            getattr(near.values, field).ravel(), getattr(fresh, field), rtol=0, atol=1e-12
        )


def test_density_and_coverage_of_stacked_samples() -> None:
    rng = np.random.default_rng(5)
    real = rng.normal(size=(40, 3))
    fakes = [rng.normal(loc=rng.normal(size=3) * 0.7, size=(n, 3)) for n in (30, 45, 20, 33)]
    distance = np.linalg.norm(real[:, None] - real[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    radius = np.sort(distance, axis=1)[:, 2]

    def inside(fake: np.ndarray) -> np.ndarray:
        return np.linalg.norm(real[:, None] - fake[None], axis=2) < radius[:, None]

    hits = [inside(fake) for fake in fakes]
    overlap = rng.random((4, 4))
    scores = PoolScores(
        names=("A@1", "A@2", "B@1", "B@2"),
        density=np.array([hit.sum() / (3 * hit.shape[1]) for hit in hits]),
        coverage=np.array([hit.any(axis=1).mean() for hit in hits]),
        masks=np.packbits([hit.any(axis=1) for hit in hits], axis=1),
        directed=overlap,
        k=3,
        n_real=40,
        counts=np.array([len(fake) for fake in fakes]),
    )
    evaluator = Evaluator(scores, objectives="paper")
    for subset in ((0, 1), (1, 2, 3), (0, 1, 2, 3)):
        stacked = inside(np.concatenate([fakes[g] for g in subset]))
        _, _, density, coverage = evaluator.evaluate(subset)
        assert density == pytest.approx(stacked.sum() / (3 * stacked.shape[1]), abs=1e-12)
        assert coverage == pytest.approx(stacked.any(axis=1).mean(), abs=1e-12)


def test_weights_change_density_and_drop_members_of_weight_zero() -> None:
    scores = made_up_pool(1)
    evaluator = Evaluator(scores, objectives="paper")
    _, inter, density, coverage = evaluator.evaluate((0, 3, 5), (0.25, 0.75, 0.0))
    assert density == pytest.approx(0.25 * scores.density[0] + 0.75 * scores.density[3])
    assert coverage == pytest.approx(evaluator.evaluate((0, 3))[3])
    assert inter == pytest.approx(evaluator.evaluate((0, 3, 5))[1])
    with pytest.raises(InputError, match="sum 1"):
        evaluator.evaluate((0, 3), (0.5, 0.6))


def test_hypervolume_and_front_of_known_points() -> None:
    points = np.array([[1.0, 0.5], [0.5, 0.1], [0.4, 0.2], [1.2, 1.5], [1.0, 0.5]])
    assert pareto_front(points).tolist() == [3, 0, 1]
    assert hypervolume(points) == pytest.approx(1.0 * 0.5 + 0.5 * 0.4)
    assert hypervolume(np.zeros((0, 2))) == 0.0
    with pytest.raises(InputError, match="point 1"):
        hypervolume([[1.0, 0.5], [np.nan, 0.2]])


@pytest.mark.parametrize(("kind", "function", "columns"), INSERTIONS)
def test_ctrl_c_within_an_insertion_leaves_the_archive_whole(
    kind: type[Archive], function: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, plain = kind(), getattr(np, function)
    archive.insert(0.5, 0.2, (0, 1))
    before = archive.hypervolume()
    for last in range(1, columns + 1):
        calls = itertools.count(1)

        def interrupted(*args: Any, calls: Any = calls, last: int = last) -> Any:
            if next(calls) == last:
                raise KeyboardInterrupt
            return plain(*args)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(np, function, interrupted)
            archive.insert(0.7, 0.3, (0, 2))
        assert archive.hypervolume() == before and len(archive.first) == len(archive) == 1


def test_gains_and_shortfall_of_single_points() -> None:
    random = np.random.default_rng(0)
    archive, offers = Archive(), random.random((30, 2))
    assert archive.gains(np.array([0.5]), np.array([0.2]), np.zeros(1)) == pytest.approx([0.4])
    for number, (intra, inter) in enumerate(offers.tolist()):
        archive.insert(intra, inter, (number,))
    values = random.random((50, 2)) * 1.2
    expected = [hypervolume(np.vstack((offers, value))) - hypervolume(offers) for value in values]
    columns = (values[:, 0], values[:, 1], np.zeros(len(values)))
    np.testing.assert_allclose(archive.gains(*columns), expected, atol=1e-12)
    short = archive.shortfall(*columns)
    np.testing.assert_array_equal((short < 0) & (values[:, 1] < 1), np.array(expected) > 0)


def dominated_by_none(values: np.ndarray) -> set[tuple[float, float]]:
    front: set[tuple[float, float]] = set()
    best = -1.0
    for inter, intra in sorted((round(b, 10), -round(a, 10)) for a, b in values.tolist()):
        if -intra > best:
            best = -intra
            front.add((best, inter))
    return front


@pytest.mark.parametrize("inter", ["symmetric", "directed"])
@pytest.mark.parametrize(("seed", "members"), [(0, 12), (1, 12), (0, 15)])
def test_pareto_local_finds_the_whole_front(seed: int, members: int, inter: str) -> None:
    scores = made_up_pool(seed, members)
    values = Evaluator(scores, inter=inter, objectives="paper")(all_subsets(members))
    expected = dominated_by_none(np.column_stack((values.first, values.second)))
    front = search(
        scores, objectives="paper", inter=inter, seed=seed, seconds=1.5 if members > 13 else None
    )
    found = {(round(point.intra_d, 10), round(point.inter_d, 10)) for point in front}
    assert found == expected
    assert front.hypervolume == pytest.approx(hypervolume(front))
    assert front.pool == pool_key(scores)
    for point in front:
        subset = tuple(scores.names.index(name) for name in point.members)
        assert brute(scores, subset, inter) == pytest.approx(
            (point.intra_d, point.inter_d), abs=1e-12
        )
    intra = [point.intra_d for point in front]
    assert intra == sorted(intra, reverse=True)


def test_constraints_hold_on_every_point_and_the_constrained_front_is_exact() -> None:
    scores = made_up_pool(4)
    costs = {name: float(1 + i) for i, name in enumerate(scores.names)}
    front = search(
        scores,
        min_size=3,
        max_size=5,
        include=["GAN1@20000"],
        exclude=["GAN2@*"],
        max_per_gan=2,
        budget=Budget(costs, 25.0),
    )
    subsets = all_subsets(12)
    gan = np.array([int(name[3]) for name in scores.names])
    allowed = (subsets.sum(axis=1) >= 3) & (subsets.sum(axis=1) <= 5) & subsets[:, 1]
    allowed &= ~subsets[:, gan == 2].any(axis=1)
    for g in range(4):
        allowed &= subsets[:, gan == g].sum(axis=1) <= 2
    allowed &= subsets @ np.arange(1.0, 13.0) <= 25.0
    values = Evaluator(scores, objectives="paper")(subsets[allowed])
    expected = dominated_by_none(np.column_stack((values.first, values.second)))
    assert {(round(p.intra_d, 10), round(p.inter_d, 10)) for p in front} == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": ["GAN9@*"]}, "GAN9"),
        ({"include": ["GAN1@20000"], "exclude": ["GAN1@*"]}, "both included and excluded"),
        ({"max_size": 2, "include": ["GAN1@*"]}, "GAN1@20000, GAN1@40000"),
        ({"max_per_gan": 1, "include": ["GAN1@*"]}, "forbids the included GAN1@20000"),
        ({"max_per_gan": 1, "min_size": 5}, "at most 4"),
        ({"min_size": 4, "max_size": 3}, "below min_size"),
        ({"min_size": 1}, "at least 2"),
        ({"exclude": ["GAN*"]}, "all are excluded"),
        ({"inter": "one-way"}, "one-way"),
        ({"sampler": "nsga-2"}, "did you mean 'nsga2'"),
        ({"trials": 0}, "at least 1"),
        ({"seconds": -1.0}, "above 0"),
        ({"seed": -1}, "not be negative"),
        ({"study_storage": "x"}, "keeps no Optuna study"),
    ],
)
def test_impossible_wishes_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        search(made_up_pool(0), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), -1.0])
def test_a_budget_that_is_no_number_is_refused(limit: float) -> None:
    with pytest.raises(InputError, match="give a number from 0 on"):
        Budget({"A@1": 1.0}, limit, "cost")


def test_impossible_budget_names_the_unit() -> None:
    scores = made_up_pool(0)
    costs = dict.fromkeys(scores.names, 3e6)
    with pytest.raises(InputError, match=r"6e\+06 parameters, above the budget of 1e\+06"):
        search(scores, budget=Budget(costs, 1e6))
    with pytest.raises(InputError, match="no cost for"):
        search(scores, budget=Budget({}, 1e6))


def test_bad_scores_are_refused() -> None:
    from dataclasses import replace

    scores = made_up_pool(0)
    directed = scores.directed.copy()
    directed[1, 2] = directed[2, 1] = np.nan
    with pytest.raises(DataError, match=r"GAN1@20000 and GAN2@20000 is nan"):
        Evaluator(replace(scores, directed=directed))
    with pytest.raises(DataError, match="contradicts itself"):
        Evaluator(replace(scores, coverage=scores.coverage + 0.5))
    one = PoolScores(
        scores.names[:1],
        scores.density[:1],
        scores.coverage[:1],
        scores.masks[:1],
        scores.directed[:1, :1],
        5,
        scores.n_real,
        scores.counts[:1],
    )
    with pytest.raises(DataError, match="at least 2 members"):
        search(one)


def test_same_seed_same_front_and_trial_budget_is_kept(tmp_path: Path) -> None:
    scores = made_up_pool(7, members=30)
    first = search(scores, trials=700, seed=3, record=tmp_path / "trials.csv")
    second = search(scores, trials=700, seed=3)
    assert first.points == second.points
    assert first.trials == 700
    assert 0 < first.distinct <= 700
    lines = (tmp_path / "trials.csv").read_text().splitlines()
    assert lines[0] == "number,members,intra_d,inter_d,seconds"
    assert len(lines) > len(first)
    first.save(tmp_path / "front.json")
    assert Front.load(tmp_path / "front.json") == first


def test_resume_never_loses_and_refuses_another_pool() -> None:
    scores = made_up_pool(7, members=30)
    short = search(scores, trials=300, seed=3)
    longer = search(scores, trials=600, seed=4, resume=short)
    assert longer.hypervolume >= short.hypervolume
    with pytest.raises(InputError, match="another pool"):
        search(made_up_pool(8, members=30), resume=short)


def test_the_public_name_is_the_function_whatever_was_imported_before() -> None:
    code = (
        "import ensgan.search.evaluator\n"
        "from ensgan.search import search\n"
        "import ensgan, types\n"
        "assert ensgan.search is search and isinstance(search, types.FunctionType)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(TypeError, match="trails"):
        search(made_up_pool(0), trails=10)  # type: ignore[call-arg]


def test_paths_are_taken_for_scores_fronts_and_records(tmp_path: Path) -> None:
    scores = made_up_pool(0)
    scores.save(tmp_path / "scores.npz")
    first = search(str(tmp_path / "scores.npz"), trials=200, record=str(tmp_path / "trials.csv"))
    assert first.points == search(scores, trials=200).points
    first.save(tmp_path / "front.json")
    again = search(tmp_path / "scores.npz", trials=100, resume=str(tmp_path / "front.json"))
    assert again.hypervolume >= first.hypervolume
    with pytest.raises(DataError, match=r"nothing\.npz"):
        search(tmp_path / "nothing.npz")


def test_distinct_counts_are_exact_below_and_close_above_the_limit() -> None:
    from ensgan.search.tables import DistinctCounter

    counter = DistinctCounter(40)
    random = np.random.default_rng(0)
    codes = random.integers(0, 50_000, 200_000)
    bits = (codes[:, None] >> np.arange(40) & 1).astype(bool)
    for start in range(0, len(bits), 5000):
        counter.add(counter.of(bits[start : start + 5000]))
    assert counter.total() == len(np.unique(codes))
    many = np.arange(1 << 19)
    counter.add(counter.of((many[:, None] >> np.arange(40) & 1).astype(bool)))
    assert counter.total() == pytest.approx(1 << 19, rel=0.02)


@pytest.mark.parametrize("sampler", ["pareto-local", "exhaustive", "ensemble", "pymoo"])
def test_a_budget_that_is_over_at_once_still_gives_a_front(sampler: str) -> None:
    front = search(made_up_pool(0, members=30), sampler=sampler, seconds=1e-9, seed=1)
    assert len(front) > 0 and front.trials > 0
