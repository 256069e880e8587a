from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ensgan.cli.app import app
from ensgan.errors import InputError
from ensgan.metrics import Approximation, measure_pool, score_pool
from ensgan.metrics.ball_counts import counted, sampled_balls
from ensgan.metrics.sums import estimate
from ensgan.search import estimates_on, pairs_to_score, search
from ensgan.types import PoolScores, harmonic_mean

K = 3


def made_up(members: int, points: int = 80) -> tuple[np.ndarray, list[np.ndarray], list[str]]:
    rng = np.random.default_rng(5)
    real = rng.normal(size=(points, 3)).astype(np.float32)
    centres = rng.normal(size=(members, 3)) * 0.8
    fakes = [(rng.normal(size=(points, 3)) * 0.7 + c).astype(np.float32) for c in centres]
    return real, fakes, [f"G{i // 3}@{10 * (1 + i % 3)}" for i in range(members)]


def off(scores: PoolScores) -> np.ndarray:
    return ~np.eye(len(scores), dtype=bool)


def held(balls: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How many points lie in each ball, by the definition."""
    radii = np.sort(distances(balls, balls), axis=1)[:, K]
    return (distances(balls, points) < radii[:, None]).sum(axis=1)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(((a[:, None].astype(np.float64) - b[None]) ** 2).sum(axis=2))


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_estimates_are_unbiased_and_their_errors_are_true(shift: float) -> None:
    """Two thousand draws of a quarter of the balls of one pair."""
    rng = np.random.default_rng(2)
    first, second = (rng.normal(size=(400, 3)) for _ in range(2))
    counts = held(first, second + shift)
    true = float(harmonic_mean(counts.mean() / K, (counts > 0).mean()))
    drawn = np.stack([rng.choice(counts, 100, replace=False) for _ in range(2000)])
    sums = (part.sum(axis=1)[:, None] for part in (drawn, drawn**2, drawn > 0))
    unit, balls, of = (np.full((2000, 1), value) for value in (1 / K, 100, 400))
    values, errors = estimate(*sums, unit, balls, of, np.ones(1))
    plain = harmonic_mean(drawn.mean(axis=1) / K, (drawn > 0).mean(axis=1))
    # Density and coverage are unbiased; of their harmonic mean's bias a part is left.
    assert abs(values.mean() - true) < max(0.02 * values.std(), 0.65 * abs(plain.mean() - true))
    assert np.mean(errors) == pytest.approx(values.std(), rel=0.3)
    assert np.mean(values - 4.4 * errors > true) == 0, "lower ends hold"


def test_pairs_are_estimated_from_the_drawn_balls() -> None:
    real, fakes, names = made_up(2)
    scores = score_pool(real, fakes, names, K, approximate=Approximation(0.5))
    for g, h in ((0, 1), (1, 0)):
        counts = held(fakes[g], fakes[h])[sampled_balls(names[g], 80, None, 0.5).order]
        sums = ([[part.sum()]] for part in (counts, counts**2, counts > 0))
        rest = (np.array([[value]]) for value in (1 / K, 40, 80))
        d, error = estimate(*map(np.array, sums), *rest, np.ones(1))
        assert (scores.directed[g, h], scores.spread[g, h]) == (d, np.float32(error))


@pytest.mark.parametrize("labelled", [False, True])
def test_all_but_the_overlaps_is_exact_and_the_front_is_the_exact_one(labelled: bool) -> None:
    real, fakes, names = made_up(9, 120)
    rng = np.random.default_rng(1)
    labels = (rng.integers(0, 2, 120), [rng.integers(0, 2, 120) for _ in fakes])
    how = {"labels": labels} if labelled else {}
    exact = measure_pool(real, fakes, names, K, **how)
    told: list[tuple[int, int]] = []
    measures = measure_pool(
        *(real, fakes, names, K),
        approximate=Approximation(0.4, pairs_to_score(search)),
        on_progress=lambda *done: told.append(done),
        **how,
    )
    scores = measures.scores
    for field in ("density", "coverage", "masks"):
        np.testing.assert_array_equal(getattr(scores, field), getattr(exact.scores, field))
    np.testing.assert_array_equal(measures.recall, exact.recall)
    assert told[-1][0] == told[-1][1] > told[0][1], "the pairs scored exactly are counted, too"
    known = ~scores.estimated & off(scores)
    assert known.any() and scores.estimated.any()
    np.testing.assert_array_equal(scores.directed[known], exact.scores.directed[known])
    front = search(scores)
    assert front.points == search(exact.scores).points
    assert estimates_on(front, scores) == estimates_on(front, exact.scores) == 0


def test_drawn_balls_depend_on_name_and_size_alone() -> None:
    first = sampled_balls("A@1", 500, None, 0.2)
    np.testing.assert_array_equal(first.order, sampled_balls("A@1", 500, None, 0.2).order)
    assert len(set(first.order.tolist())) == 100 == first.starts[-1]
    assert set(first.order) != set(sampled_balls("A@2", 500, None, 0.2).order)
    assert counted(20, 0.1) == 20 and counted(100, 0.1) == 30, "few are all counted"


def test_bad_shares_and_what_does_not_go_together() -> None:
    real, fakes, names = made_up(3)
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="give a number between 0 and 1"):
            Approximation(share)
    half = Approximation(0.5)
    with pytest.raises(InputError, match="no resamples"):
        score_pool(real, fakes, names, K, approximate=half, resamples=3)
    known = score_pool(real, fakes[:2], names[:2], K, approximate=half)
    with pytest.raises(InputError, match="estimated with --approximate-inter: give it again"):
        score_pool(real, fakes, names, K, known=known)
    grown = score_pool(real, fakes, names, K, known=known, approximate=half)
    np.testing.assert_array_equal(grown.directed[:2, :2], known.directed)
    np.testing.assert_array_equal(grown.spread[:2, :2], known.spread)


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    real, fakes, names = made_up(7, 100)
    np.savez("features.npz", real=real, fake=np.stack(fakes), names=np.array(names))

    def run(line: str) -> Result:
        return CliRunner().invoke(app, line.split())

    result = run("score features.npz -o scores.npz --approximate-inter .4 --json")
    assert result.exit_code == 0, result.output
    overlaps = json.loads(result.stdout)["overlaps"]
    assert overlaps["exact"] + overlaps["estimated"] == 21 and overlaps["exact"] > 0
    low, high = overlaps["mean_interval"]
    assert low <= np.nanmean(score_pool(real, fakes, names).directed) <= high
    shown = run("score features.npz -o scores.npz --approximate-inter .4").stdout
    assert "the front is that of exact overlaps with 95% confidence" in " ".join(shown.split())
    kept = PoolScores.load("scores.npz")
    assert kept.part(names[:3]).spread.shape == (3, 3)
    assert "estimates" not in run("search scores.npz -o front.json").stderr
    # Of another kind of front nothing was made sure.
    other = run("search scores.npz -o other.json --min-size 5")
    assert "overlaps of the front's ensembles are estimates" in " ".join(other.stderr.split())
    bad = run("score features.npz -o no.npz --approximate-inter 2")
    assert isinstance(bad.exception, InputError) and not Path("no.npz").exists()
