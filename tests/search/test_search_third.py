"""A third objective: the whole front of three, against brute force."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import optuna
import pytest
from search_pool import made_up_pool

from ensgan.errors import InputError
from ensgan.search import Evaluator, hypervolume, pareto_front, search
from ensgan.search.pareto import CostArchive
from ensgan.types import Front, PoolScores


def rounded(values: np.ndarray) -> set[tuple[float, ...]]:
    return {tuple(row) for row in np.round(values, 10).tolist()}


def front_of_three(values: np.ndarray) -> set[tuple[float, ...]]:
    """Values none of which is at least matched and once beaten; columns: up, down, down."""
    better = np.round(values * (-1, 1, 1), 10)
    kept = [not ((better <= row).all(axis=1) & (better < row).any(axis=1)).any() for row in better]
    return rounded(values[kept])


def costs_by_name(scores: PoolScores) -> dict[str, float]:
    return {name: float(3 + i * i % 7) for i, name in enumerate(scores.names)}


def every_value(scores: PoolScores, third: str) -> np.ndarray:
    """The three objectives of every ensemble of a small pool."""
    codes = np.arange(1 << len(scores))
    subsets = (codes[:, None] >> np.arange(len(scores)) & 1).astype(bool)
    subsets = subsets[subsets.sum(axis=1) >= 2]
    values = Evaluator(scores)(subsets)
    each = np.ones(len(scores))
    if third != "members":
        each = np.array(list(costs_by_name(scores).values()))
    return np.column_stack((values.first, values.second, subsets @ each))


def three_values(front: Front, third: str) -> np.ndarray:
    return np.array([(p.intra_d, p.inter_d, dict(p.measures)[third]) for p in front])


@pytest.mark.parametrize("third", ["members", "cost", "parameters"])
@pytest.mark.parametrize("sampler", ["pareto-local", "exhaustive"])
def test_the_front_of_three_objectives_is_exact(sampler: str, third: str) -> None:
    scores = made_up_pool(2, members=10)
    costs = None if third == "members" else costs_by_name(scores)
    front = search(scores, sampler=sampler, third=third, costs=costs)
    expected = front_of_three(every_value(scores, third))
    assert rounded(three_values(front, third)) == expected
    assert len(front) == len(expected) > len(search(scores))
    assert front.objectives[-1] == f"{third}:min"
    assert Front.from_json(front.to_json()) == front


def test_local_search_keeps_to_three_objectives_without_enumeration() -> None:
    scores = made_up_pool(2, members=16)
    front = search(scores, third="members", trials=15_000, max_size=6)
    best = search(scores, trials=15_000, max_size=6)
    assert hypervolume(front.points) == pytest.approx(best.hypervolume, rel=1e-3)
    sizes = {len(point.members) for point in front}
    assert {2, 3, 4} <= sizes
    pairs = search(scores, sampler="exhaustive", max_size=2)
    assert {p.members for p in pairs} <= {p.members for p in front}


def test_the_archive_of_three_keeps_what_a_quadratic_check_keeps() -> None:
    random = np.random.default_rng(1)
    values = np.round(random.random((300, 3)), 1)
    archive = CostArchive()
    for start in range(0, 300, 50):
        block = values[start : start + 50]
        for row in archive.candidates(*block.T).tolist():
            archive.insert(block[row, 0], block[row, 1], (start + row,), block[row, 2])
    kept = np.column_stack((archive.first, archive.second, archive.cost))
    assert rounded(kept) == front_of_three(values)


@pytest.mark.parametrize("sampler", ["ensemble", "nsga2", "nsga3", "tpe", "gp", "random", "pymoo"])
def test_every_sampler_takes_a_third_objective(sampler: str, tmp_path: Path) -> None:
    """The front is that of the trials, and good samplers come near the true one."""
    scores = made_up_pool(2, members=8)
    trials = {"gp": 12, "ensemble": 120}.get(sampler, 60)
    record = tmp_path / "trials.csv"
    options = {"third": "cost", "costs": costs_by_name(scores), "record": record}
    front = search(scores, sampler=sampler, trials=trials, seed=1, **options)
    rows = list(csv.DictReader(record.open()))
    assert front.trials >= len(rows) > 0
    tried = np.array([[float(row[c]) for c in ("intra_d", "inter_d", "cost")] for row in rows])
    tried = tried[np.isfinite(tried).all(axis=1)]
    found = rounded(three_values(front, "cost"))
    assert found == front_of_three(tried)
    true = front_of_three(every_value(scores, "cost"))
    if sampler == "ensemble":
        assert found == true
    assert front.objectives[-1] == "cost:min"


def test_a_study_of_three_objectives_is_continued_and_kept_apart(tmp_path: Path) -> None:
    scores, storage = made_up_pool(2, members=8), str(tmp_path / "study.journal")
    options = {"sampler": "nsga2", "study_storage": storage, "third": "members"}
    search(scores, trials=20, **options)
    assert search(scores, trials=30, **options).trials == 30
    plain = search(scores, trials=20, sampler="nsga2", study_storage=storage)
    assert len(plain.objectives) == 2
    journal = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))
    studies = optuna.study.get_all_study_summaries(journal)
    assert sorted((len(s.directions), s.n_trials) for s in studies) == [(2, 20), (3, 30)]


def test_warm_start_and_exhaustive_sizes_with_a_third_objective() -> None:
    scores = made_up_pool(3, members=14)
    proven = search(scores, sampler="exhaustive", third="members", max_size=3)
    assert proven.sampler == "exhaustive:2-3"
    local = search(scores, third="members", max_size=3)
    np.testing.assert_allclose(
        three_values(local, "members"), three_values(proven, "members"), atol=1e-12
    )
    warm = search(
        scores, sampler="random", third="members", max_size=3, warm_start=True, trials=len(local)
    )
    assert rounded(three_values(warm, "members")) == rounded(three_values(proven, "members"))


def test_gains_of_three_objectives_are_volumes() -> None:
    """With few different costs: the volume under the front, slice by slice, is exact."""
    random = np.random.default_rng(5)
    offers = np.column_stack((random.random((40, 2)), random.integers(1, 6, 40).astype(float)))
    archive = CostArchive()
    for number, (intra, inter, cost) in enumerate(offers.tolist()):
        archive.insert(intra, inter, (number,), cost)
    values = np.column_stack((random.random((25, 2)) * 1.2, random.integers(1, 6, 25)))
    levels = np.unique(np.concatenate((archive.cost, values[:, 2])))
    thick = np.append(np.diff(levels), np.ptp(levels) / len(levels))

    def volume(points: np.ndarray) -> float:
        return sum(
            t * hypervolume(points[points[:, 2] <= level, :2])
            for level, t in zip(levels, thick, strict=True)
        )

    expected = [volume(np.vstack((offers, value))) - volume(offers) for value in values]
    np.testing.assert_allclose(archive.gains(*values.T), expected, atol=1e-12)
    short = archive.shortfall(*values.T)
    assert ((short < 0) <= (np.array(expected) > 0) | (values[:, 1] >= 1)).all()


@pytest.mark.parametrize("third", ["members", "cost"])
def test_hypervolume_of_three_is_the_mean_area_over_all_limits(third: str) -> None:
    """Slice by slice: within each limit of the third objective the area of the first two."""
    scores = made_up_pool(2, members=10)
    costs = None if third == "members" else costs_by_name(scores)
    front = search(scores, third=third, costs=costs)
    values = three_values(front, third)
    most = float(len(scores)) if costs is None else sum(costs.values())
    limits = np.append(np.unique(values[:, 2]), most)
    expected = sum(
        (high - low) / most * hypervolume(values[values[:, 2] <= low, :2])
        for low, high in itertools.pairwise(limits.tolist())
    )
    assert front.hypervolume == pytest.approx(expected, abs=1e-12)
    assert front.hypervolume == pytest.approx(hypervolume(front), abs=1e-12)
    assert front.hypervolume == pytest.approx(hypervolume(values, most), abs=1e-12)
    assert front.hypervolume < hypervolume(front.points)
    assert front.reference == (0.0, 1.0, most)
    assert front.history[-1][2] == front.hypervolume
    volumes = [volume for _, _, volume in front.history]
    assert volumes == sorted(volumes)
    with pytest.raises(InputError, match="largest value"):
        hypervolume(values)
    assert hypervolume(np.column_stack((values[:, :2], np.zeros(len(values)))), 0.0) > 0


def test_the_front_of_three_columns_equals_a_quadratic_check() -> None:
    values = np.round(np.random.default_rng(4).random((200, 3)), 1)
    kept = values[pareto_front(values)]
    assert rounded(kept) == front_of_three(values)
    assert len(kept) == len(rounded(kept))
    assert (np.diff(kept[:, 0]) <= 0).all()


def test_older_fronts_say_that_their_hypervolume_is_of_two() -> None:
    value = search(made_up_pool(2, members=8), third="members").to_json()
    del value["reference"]
    assert Front.from_json(value).reference == (0.0, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"third": "size"}, "third objective"),
        ({"third": "cost"}, "needs the cost"),
        ({"third": "cost", "costs": {}}, "no cost for"),
    ],
)
def test_unusable_third_objectives_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        search(made_up_pool(0), **options)  # type: ignore[arg-type]
