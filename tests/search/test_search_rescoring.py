"""Bootstrap, re-scoring and weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from search_pool import made_up_pool

from ensgan.errors import InputError
from ensgan.metrics import score_pool
from ensgan.search import (
    Evaluator,
    bootstrap,
    optimise_weights,
    rescore,
    search,
    select,
    shared_members,
)


def test_intervals_hold_the_estimate_and_shrink_with_more_points() -> None:
    widths = []
    for points in (90, 900):
        scores = made_up_pool(0, points=points)
        front = search(scores)
        confidence = bootstrap(front, scores, rounds=300, seed=1)
        assert len(confidence.first) == len(front)
        for point, interval in zip(front, confidence.first, strict=True):
            assert interval.low <= point.intra_d <= interval.high
        widths.append(np.mean([i.high - i.low for i in confidence.coverage]))
    assert widths[1] < 0.6 * widths[0]


def test_coverage_interval_is_the_binomial_one() -> None:
    scores = made_up_pool(3, points=400)
    front = search(scores)
    point = front.points[0]
    interval = bootstrap(replace(front, points=(point,)), scores, rounds=4000).coverage[0]
    error = np.sqrt(point.coverage * (1 - point.coverage) / 400)
    assert interval.low == pytest.approx(point.coverage - 1.96 * error, abs=0.25 * error)
    assert interval.high == pytest.approx(point.coverage + 1.96 * error, abs=0.25 * error)


def test_membership_over_resamples() -> None:
    scores = made_up_pool(0)
    front = search(scores)
    confidence = bootstrap(front, scores, rounds=5, searches=3)
    on_front = {name for point in front for name in point.members}
    assert set(confidence.membership) == set(scores.names)
    assert max(confidence.membership[name] for name in on_front) == 1.0


def drawn_pool(seed: int, images: int = 120) -> tuple[np.ndarray, list[np.ndarray]]:
    """Real points and the images of five generators, all drawn afresh."""
    random = np.random.default_rng(seed)
    fakes = [
        random.normal(size=(images, 3)) * spread + shift
        for spread, shift in ((1.0, 0.0), (0.6, 0.4), (0.8, -0.6), (1.3, 0.2), (0.5, -0.3))
    ]
    return random.normal(size=(images, 3)), fakes


NAMES = [f"G{i}@1" for i in range(5)]


@pytest.mark.parametrize("form", ["symmetric", "directed"])
def test_resampled_images_give_intervals_of_both_objectives(form: str) -> None:
    """As wide as the spread of the objectives over fresh points and images, or wider."""
    real, fakes = drawn_pool(0)
    scores = score_pool(real, fakes, NAMES, resamples=200)
    front = search(scores, inter=form)
    sure = bootstrap(front, scores, rounds=1000)
    assert (sure.rounds, sure.covers) == (200, ("real points", "images"))
    assert sure.second is not None
    fresh = [score_pool(*drawn_pool(seed), NAMES) for seed in range(1, 31)]
    for place, point in enumerate(front):
        again = [rescore(replace(front, points=(point,)), each)[0] for each in fresh]
        for name, interval in (("intra_d", sure.first), ("inter_d", sure.second)):
            low, high = interval[place].low, interval[place].high
            assert low <= getattr(point, name) <= high
            spread = np.std([getattr(each, name) for each in again], ddof=1)
            assert 0.6 < (high - low) / (2 * 1.96 * spread) < 2.5
        assert sure.coverage[place].high <= 1.0
    alone = bootstrap(front, replace(scores, resamples=None), rounds=200)
    assert alone.second is None and alone.covers == ("real points",)


def test_resampled_images_tell_which_members_stay() -> None:
    scores = score_pool(*drawn_pool(3), NAMES, resamples=4)
    front = search(scores)
    sure = bootstrap(front, scores, searches=9)
    assert (sure.rounds, sure.searches) == (4, 4)
    expected = [search(scores.resample(b), trials=30_000, seed=b) for b in range(4)]
    for name, share in sure.membership.items():
        on = [any(name in point.members for point in each) for each in expected]
        assert share == np.mean(on)
    assert bootstrap(front, scores, seed=5).first == bootstrap(front, scores).first


def test_rescoring_on_the_same_scores_changes_nothing() -> None:
    scores = made_up_pool(0)
    front = search(scores, inter="directed")
    again = rescore(front, scores)
    for before, after in zip(front, again, strict=True):
        assert after.members == before.members
        assert (after.intra_d, after.inter_d) == pytest.approx((before.intra_d, before.inter_d))
    with pytest.raises(InputError, match="unknown member"):
        rescore(front, made_up_pool(0, gans=2))


@pytest.mark.parametrize("key", ["first", "second"])
def test_a_front_whose_values_were_changed_is_refused(key: str) -> None:
    scores = made_up_pool(3)
    front = search(scores)
    assert select(front, pool=scores).point in front.points
    best, *others = front.points
    better = replace(best, **{key: getattr(best, key) + 0.01})
    with pytest.raises(InputError, match=r"the front says .* its scores say"):
        select(replace(front, points=(better, *others)), pool=scores)


def test_side_by_side_shares() -> None:
    first, second = search(made_up_pool(0)), search(made_up_pool(1))
    shares = shared_members([first, second])
    assert all(len(pair) == 2 and 0 <= min(pair) <= max(pair) <= 1 for pair in shares.values())
    sums = [sum(pair) for pair in shares.values()]
    assert sums[0] >= 0.3


def test_weights_beat_uniform_and_every_random_choice_above_the_floor() -> None:
    scores = made_up_pool(2)
    evaluator = Evaluator(scores)
    point = search(scores).points[0]
    best = optimise_weights(evaluator, point, floor=0.4)
    assert best.weights is not None
    assert sum(best.weights) == pytest.approx(1.0)
    members, size = evaluator.indices(point.members), len(point.members)
    for draw in np.random.default_rng(0).dirichlet(np.ones(size), 50):
        weights = 0.4 / size + 0.6 * draw
        assert evaluator.evaluate(members, weights.tolist())[0] <= best.intra_d + 1e-12
    assert best.intra_d > point.intra_d
    with pytest.raises(InputError, match="floor"):
        optimise_weights(evaluator, point, floor=0.0)
