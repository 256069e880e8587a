"""A third objective: the whole front of three, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from search_pool import made_up_pool

from ensgan.errors import InputError
from ensgan.search import Evaluator, search
from ensgan.search.pareto import CostArchive
from ensgan.types import Front


def rounded(values: np.ndarray) -> set[tuple[float, ...]]:
    return {tuple(row) for row in np.round(values, 10).tolist()}


def front_of_three(values: np.ndarray) -> set[tuple[float, ...]]:
    """Values none of which is at least matched and once beaten; columns: up, down, down."""
    better = np.round(values * (-1, 1, 1), 10)
    kept = [not ((better <= row).all(axis=1) & (better < row).any(axis=1)).any() for row in better]
    return rounded(values[kept])


@pytest.mark.parametrize("third", ["members", "cost"])
def test_the_front_of_three_objectives_is_exact(third: str) -> None:
    scores = made_up_pool(2, members=10)
    costs = {name: float(3 + i * i % 7) for i, name in enumerate(scores.names)}
    front = search(scores, third=third, costs=costs if third == "cost" else None)
    codes = np.arange(1 << 10)
    subsets = (codes[:, None] >> np.arange(10) & 1).astype(bool)
    subsets = subsets[subsets.sum(axis=1) >= 2]
    values = Evaluator(scores)(subsets)
    each = np.ones(10) if third == "members" else np.array(list(costs.values()))
    cost = subsets @ each
    expected = front_of_three(np.column_stack((values.intra_d, values.inter_d, cost)))
    found = [(p.intra_d, p.inter_d, dict(p.measures)[third]) for p in front]
    assert rounded(np.array(found)) == expected
    assert len(front) == len(expected) > len(search(scores))
    assert front.objectives[-1] == f"{third}:min"
    assert Front.from_json(front.to_json()) == front


def test_local_search_keeps_to_three_objectives_without_enumeration() -> None:
    scores = made_up_pool(2, members=16)
    front = search(scores, third="members", trials=15_000, max_size=6)
    best = search(scores, trials=15_000, max_size=6)
    assert front.hypervolume == pytest.approx(best.hypervolume, rel=1e-3)
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
    kept = np.column_stack((archive.intra, archive.inter, archive.cost))
    assert rounded(kept) == front_of_three(values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"third": "size"}, "third objective"),
        ({"third": "cost"}, "needs the cost"),
        ({"third": "members", "sampler": "nsga2"}, "two objectives"),
        ({"third": "cost", "costs": {}}, "no cost for"),
    ],
)
def test_unusable_third_objectives_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        search(made_up_pool(0), **options)  # type: ignore[arg-type]
