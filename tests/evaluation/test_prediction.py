"""Which scores predict worth: the ensembles tried, the figures, and the plain verdict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ensgan.downstream import CappedIntraD, RepeatResult, Strategy
from ensgan.evaluation.prediction import Prediction, many_ensembles, prediction, score_values
from ensgan.search import Evaluator
from ensgan.types import PoolScores

N_REAL = 64


def pool(members: int = 12, seed: int = 0) -> PoolScores:
    """Members whose later snapshots cover more; the densest of them cover least."""
    rng = np.random.default_rng(seed)
    names = tuple(f"G{index // 3}@{index % 3 + 1}" for index in range(members))
    coverage = np.linspace(0.1, 0.8, members)
    masks = rng.random((members, N_REAL)) < coverage[:, None]
    directed = rng.random((members, members)) * 0.5
    np.fill_diagonal(directed, np.nan)
    return PoolScores(
        names,
        np.linspace(1.6, 0.7, members),
        masks.mean(axis=1),
        np.packbits(masks, axis=1),
        directed,
        k=5,
        n_real=N_REAL,
        counts=np.full(members, 50),
    )


SCORES = pool()
FRONT = [SCORES.names[:2], SCORES.names[:5]]


def run(strategy: Strategy, repeat: int, auc: float) -> RepeatResult:
    return RepeatResult(strategy, repeat, {"auc": auc}, {"auc": auc}, -auc, 1, 1, 1, 0.0, (1.0,))


def predicted(strategies: Sequence[Strategy], noise: float, sign: float = 1.0) -> Prediction:
    """Worth is capped Intra-d, or its opposite, beside noise."""
    rng, worth = np.random.default_rng(1), CappedIntraD(SCORES)
    results = [
        run(each, repeat, sign * worth(each.members) + noise * rng.normal())
        for repeat in (1, 0)
        for each in strategies
    ]
    return prediction(SCORES, strategies, results)


def test_the_ensembles_are_of_many_kinds_and_sizes() -> None:
    found = many_ensembles(SCORES, FRONT, 40, 3)
    members = [strategy.members for strategy in found]
    assert len(set(members)) == 40 and found == many_ensembles(SCORES, FRONT, 40, 3)
    assert members != [strategy.members for strategy in many_ensembles(SCORES, FRONT, 40, 4)]
    assert SCORES.names in members
    assert tuple(name for name in SCORES.names if name.endswith("@3")) in members
    sizes = {len(each) for each in members}
    assert min(sizes) == 2 and len(sizes) >= 5
    drawn = [each for each in found if each.name.startswith("predict:random")]
    assert 20 <= len(drawn) < 40
    # Three members have four ensembles of two or more.
    assert len(many_ensembles(pool(3), [], 40, 0)) == 4


def test_scores_are_those_of_the_search() -> None:
    members = [SCORES.names[:3], SCORES.names]
    found = score_values(SCORES, members)
    evaluator = Evaluator(SCORES, objectives="paper")
    for place, each in enumerate(members):
        first, second = evaluator.evaluate(evaluator.indices(each))[:2]
        assert found["Intra-d"][place] == pytest.approx(first)
        assert found["-Inter-d"][place] == pytest.approx(-second)
        assert found["capped Intra-d"][place] == pytest.approx(CappedIntraD(SCORES)(each))
    assert found["members"] == (3.0, 12.0)


def test_what_predicts_is_named_and_what_misleads_too() -> None:
    strategies = many_ensembles(SCORES, FRONT, 40, 3)
    good = predicted(strategies, noise=0.01)
    assert good.correlations()["capped Intra-d"].rho == pytest.approx(1, abs=0.05)
    assert next(iter(good.correlations())) in ("capped Intra-d", "validation AUC", "coverage")
    right = good.verdict.partition("right way")[2].partition("the wrong way")[0]
    assert "capped Intra-d" in right and "40 ensembles" in good.verdict
    bad = predicted(strategies, noise=0.01, sign=-1)
    wrong = bad.verdict.partition("wrong way")[2].partition("no better")[0]
    assert "capped Intra-d" in wrong


def test_repeats_that_do_not_agree_leave_it_undecided() -> None:
    noisy = predicted(many_ensembles(SCORES, FRONT, 40, 3), noise=100)
    assert noisy.verdict.startswith("undecided") and (noisy.ceiling().low or 0) <= 0
    value = noisy.to_json()
    assert value["verdict"] == noisy.verdict and len(value["auc"]) == 40


def test_validation_is_held_against_the_other_repeats() -> None:
    """A repeat shares its luck with itself: its own test figures must not count."""
    strategies = many_ensembles(SCORES, FRONT, 40, 3)
    luck = np.random.default_rng(5).normal(size=(2, 40))
    results = [run(s, r, luck[r, i]) for i, s in enumerate(strategies) for r in (0, 1)]
    rho = prediction(SCORES, strategies, results).correlations()["validation AUC"].rho
    assert rho is not None and abs(rho) < 0.4
