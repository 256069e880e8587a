"""The capped form: what crowding is worth, and that fronts keep their own form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from search_pool import every_subset, made_up_pool

from ensgan.search import (
    Evaluator,
    bootstrap,
    optimise_weights,
    rescore,
    rescoring,
    search,
)
from ensgan.types import PoolScores, harmonic_mean


def crowded_pool() -> PoolScores:
    """Members 0 and 1 crowd the middle: density 1.7, coverage .6; the others are honest."""
    scores = made_up_pool(1, members=6, points=100)
    covered = np.zeros((6, 100), bool)
    reaches = ((0, 60), (0, 60), (10, 80), (15, 85), (5, 85), (20, 70))
    for member, (start, reach) in enumerate(reaches):
        covered[member, start : start + reach] = True
    return replace(
        scores,
        density=np.array([1.7, 1.7, 0.8, 0.82, 0.78, 0.8]),
        coverage=covered.mean(axis=1),
        masks=np.packbits(covered, axis=1),
        counts=np.full(6, 50),
    )


def test_capped_density_counts_for_at_most_one_in_every_member() -> None:
    scores = crowded_pool()
    capped, paper = Evaluator(scores), Evaluator(scores, objectives="paper")
    subsets = every_subset(6)
    values, published = capped(subsets), paper(subsets)
    for row, subset in enumerate(subsets):
        density = np.minimum(scores.density[subset], 1.0).mean()
        expected = float(harmonic_mean(density, published.coverage[row]))
        assert values.first[row] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(values.second, published.second)
    front = search(scores)
    assert front.form == "capped"  # the default
    point = next(p for p in front if scores.names[0] in p.members)
    members = capped.indices(point.members)
    assert point.density == pytest.approx(scores.density[list(members)].mean())
    assert dict(point.measures)["capped_density"] < point.density
    assert point.intra_d == point.first == capped.evaluate(members)[0]
    # As published, side by side.
    published_value = paper.evaluate(members)[0]
    assert dict(point.measures)["intra_d_paper"] == pytest.approx(published_value, abs=1e-12)
    assert "paper Intra-d" in front.cells(point)


def test_crowding_no_longer_pays_under_the_capped_form() -> None:
    """The paper's form prefers two members that crowd the middle to two honest ones."""
    scores = crowded_pool()
    crowded, honest = (0, 1), (2, 3)
    for form, crowding_wins in (("paper", True), ("capped", False)):
        evaluator = Evaluator(scores, objectives=form)
        first = [evaluator.evaluate(pair)[0] for pair in (crowded, honest)]
        assert (first[0] > first[1]) == crowding_wins


def test_below_one_capped_and_paper_are_the_same() -> None:
    scores = made_up_pool(2)
    scores = replace(scores, density=np.minimum(scores.density, 0.99))
    plain, capped = search(scores, objectives="paper"), search(scores)
    assert [p.members for p in plain] == [p.members for p in capped]
    assert [p.first for p in plain] == [p.first for p in capped]
    assert plain.pool == capped.pool


def test_a_capped_front_is_resampled_rescored_and_weighted_in_its_own_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = crowded_pool()
    front = search(scores, objectives="capped", inter="directed")
    assert front.objectives == ("intra_d:max:capped", "inter_d:min:directed")
    again = rescore(front, scores)
    assert [p.first for p in again] == pytest.approx([p.first for p in front])
    assert [p.measures for p in again] == [p.measures for p in front]
    sure = bootstrap(front, scores, rounds=100, searches=2)
    for point, interval in zip(front, sure.first, strict=True):
        assert interval.low <= point.first <= interval.high
    asked = []
    monkeypatch.setattr(rescoring, "search", lambda pool, **options: asked.append(options) or front)
    bootstrap(front, scores, rounds=1, searches=1)
    assert (asked[0]["objectives"], asked[0]["inter"]) == ("capped", "directed")
    evaluator = Evaluator(scores, inter="directed", objectives="capped")
    weighted = optimise_weights(evaluator, front.points[0], floor=0.5)
    assert weighted.first >= front.points[0].first
