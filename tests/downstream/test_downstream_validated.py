"""The shortlist, and G* chosen from it by validation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ensgan.downstream import (
    Candidate,
    CappedIntraD,
    LabelledFeatures,
    LinearProbe,
    ValidationResult,
    ValidationTrial,
    choose_unvalidated,
    choose_validated,
    make_shortlist,
)
from ensgan.errors import InputError
from ensgan.types import Front, FrontPoint, PoolScores

REAL = 800


def make_scores(density: Sequence[float], coverage: Sequence[float]) -> PoolScores:
    """A pool whose members reach random real points; GANs of two snapshots each."""
    m = len(density)
    rng = np.random.default_rng(0)
    reached = np.zeros((m, REAL), np.uint8)
    for row, share in enumerate(coverage):
        reached[row, rng.choice(REAL, int(share * REAL), replace=False)] = 1
    names = tuple(f"G{i // 2}@{10 * (1 + i % 2)}" for i in range(m))
    square = np.full((m, m), 0.5)
    np.fill_diagonal(square, np.nan)
    return PoolScores(
        names, np.array(density), reached.mean(axis=1), np.packbits(reached, axis=1), square,
        5, REAL, np.full(m, REAL),
    )  # fmt: skip


SCORES = make_scores(
    [0.9, 0.8, 1.7, 0.5, 0.95, 0.9, 0.3, 0.2, 0.7, 0.6, 0.85, 0.9],
    [0.6, 0.7, 0.2, 0.3, 0.7, 0.8, 0.2, 0.1, 0.5, 0.6, 0.7, 0.7],
)


def test_capped_intra_d_is_that_of_the_union_with_densities_of_at_most_one() -> None:
    intra_d = CappedIntraD(SCORES)
    members = [SCORES.names[2], SCORES.names[0]]
    reached = np.unpackbits(SCORES.masks[0] | SCORES.masks[2]).mean()
    assert intra_d(members) == pytest.approx(2 * 0.95 * reached / (0.95 + reached))
    assert intra_d(members[::-1]) == intra_d(members)
    assert SCORES.capped_intra_d[2] == pytest.approx(2 * 1 * 0.2 / 1.2)
    with pytest.raises(InputError, match="no member G9@10"):
        intra_d(["G9@10"])


def test_an_over_concentrated_member_leads_only_uncapped() -> None:
    """Density 1.7 and coverage 0.6 against an honest 0.8 and 0.8."""
    pool = make_scores([1.7, 0.8], [0.6, 0.8])
    assert pool.intra_d[0] > pool.intra_d[1]
    capped = pool.capped_intra_d
    assert capped[0] < capped[1]


def test_a_shortlist_holds_every_kind_of_proposal_once() -> None:
    fronts = {"front of capped Intra-d": [SCORES.names[4:6], SCORES.names[:3]]}
    found = make_shortlist(SCORES, fronts, seed=0)
    assert found == make_shortlist(SCORES, fronts, seed=0)
    sources = {source for candidate in found for source in candidate.sources}
    assert {"front of capped Intra-d", "top 3", "top 5", "last", "random 5"} <= sources
    assert "snapshots of G0" in sources and "all" not in sources  # larger than half the pool
    sets = [frozenset(candidate.members) for candidate in found]
    assert len(set(sets)) == len(sets)
    values = [candidate.intra_d for candidate in found]
    assert values == sorted(values, reverse=True)
    assert {len(c.members) for c in found} <= set(range(2, 7))
    (pair,) = [c for c in found if set(c.members) == set(SCORES.names[4:6])]
    assert {"front of capped Intra-d", "snapshots of G2"} <= set(pair.sources)
    assert make_shortlist(SCORES, fronts, seed=1) != found


def test_a_short_shortlist_keeps_the_largest_capped_intra_d_and_the_controls() -> None:
    found = make_shortlist(SCORES, {}, seed=0, most=4, most_members=12)
    sources = {source for candidate in found for source in candidate.sources}
    assert len(found) == 4 and {"last", "all"} <= sources
    everything = make_shortlist(SCORES, {}, seed=0, most=99, most_members=12)
    assert found[0] == everything[0]
    with pytest.raises(InputError, match="at least 2 ensembles"):
        make_shortlist(SCORES, {}, seed=0, most=1)
    with pytest.raises(InputError, match="no member X@1"):
        make_shortlist(SCORES, {"front": [("X@1", "G0@10")]}, seed=0)


def candidate(*numbers: int, intra_d: float = 0.5) -> Candidate:
    return Candidate(tuple(SCORES.names[n] for n in numbers), intra_d, ("made",))


@dataclass
class Classifiers:
    """Simulated classifiers: an ensemble's true worth, and noise."""

    worth: dict[tuple[str, ...], float]
    noise: float = 0.0

    def __post_init__(self) -> None:
        self.trials: list[ValidationTrial] = []
        self.rng = np.random.default_rng(0)

    def __call__(self, trials: Sequence[ValidationTrial]) -> list[ValidationResult]:
        self.trials += trials
        found = []
        for trial in trials:
            error = self.noise * self.rng.normal()
            auc = self.worth.get(trial.strategy.members, 0.5) + error
            found.append(ValidationResult(auc, 1 - auc))
        return found


POOL_OF_PAIRS = [candidate(i, j) for i in range(6) for j in range(i)]


def test_the_most_useful_of_equal_scores_is_chosen() -> None:
    """What scores cannot see, labels for one, validation sees."""
    worth = {c.members: 0.6 + 0.02 * place for place, c in enumerate(POOL_OF_PAIRS)}
    judge = Classifiers(worth)
    choice = choose_validated(POOL_OF_PAIRS, SCORES, judge, seed=4, greedy_steps=0)
    assert choice.chosen == POOL_OF_PAIRS[-1]
    assert choice.trained == len(judge.trials)
    # One for each of the 15, then four seeds more of the better third.
    assert [t.seed for t in judge.trials[:15]] == [4] * 15
    assert {t.seed for t in judge.trials} == {4, 5, 6, 7, 8}
    assert len({(t.strategy.members, t.seed) for t in judge.trials}) == choice.trained == 15 + 4 * 5
    assert "validation AUC 0.880 of 5 classifiers" in choice.reason
    assert "runner-up" in choice.reason


def test_capped_intra_d_decides_between_equally_useful_ensembles() -> None:
    listed = [candidate(0, 1, intra_d=0.4), candidate(2, 3, intra_d=0.9)]
    choice = choose_validated(listed, SCORES, Classifiers({}), seed=0, greedy_steps=0)
    assert choice.chosen == listed[1]


def test_fewer_members_are_chosen_when_the_larger_ensemble_is_not_clearly_better() -> None:
    large, small = candidate(0, 1, 2, 3, 4, intra_d=0.5), candidate(0, 1, intra_d=0.5)

    def level(trials: Sequence[ValidationTrial]) -> list[ValidationResult]:
        """The larger one wins with three seeds of five."""
        return [
            ValidationResult(0.9 + 0.01 * ((len(t.strategy.members) > 2) == (t.seed < 3)), 0.3)
            for t in trials
        ]

    options = {"seed": 0, "greedy_steps": 0}
    choice = choose_validated([large, small], SCORES, level, **options)
    assert choice.ranking[0].candidate == large and choice.chosen == small
    assert "no better by more than one standard error, and larger" in choice.reason
    clear = Classifiers({large.members: 0.95, small.members: 0.9})
    choice = choose_validated([large, small], SCORES, clear, **options)
    assert choice.chosen == large
    assert "behind with every classifier" in choice.reason  # and not by standard errors of 0


def test_the_leader_grows_while_validation_agrees() -> None:
    start = candidate(4, 5, intra_d=CappedIntraD(SCORES)(SCORES.names[4:6]))
    grown = tuple(SCORES.names[i] for i in (4, 5, 10))
    listed = [start, candidate(6, 7, intra_d=0.2)]
    judge = Classifiers({start.members: 0.8, grown: 0.9})
    # Members 10 and 11 raise its capped Intra-d most; of these 10 alone is useful.
    choice = choose_validated(listed, SCORES, judge, seed=0, greedy_additions=6)
    assert choice.chosen.members == grown and "+ G5@10" in choice.reason
    stays = choose_validated(listed, SCORES, Classifiers({start.members: 0.8}), seed=0)
    assert stays.chosen == start
    bounded = choose_validated(listed, SCORES, judge, seed=0, greedy_additions=6, most_members=2)
    assert bounded.chosen == start


def test_noisy_judges_choose_better_than_chance_and_better_than_one_look() -> None:
    chosen, once = [], []
    for trial in range(40):
        rng = np.random.default_rng(trial)
        worth = {c.members: float(rng.uniform(0.8, 0.9)) for c in POOL_OF_PAIRS}
        judge = Classifiers(worth, noise=0.03)
        judge.rng = rng
        choice = choose_validated(POOL_OF_PAIRS, SCORES, judge, seed=0, greedy_steps=0)
        chosen.append(worth[choice.chosen.members])
        first = judge.trials[: len(POOL_OF_PAIRS)]
        looks = [worth[t.strategy.members] + 0.03 * rng.normal() for t in first]
        once.append(worth[first[int(np.argmax(looks))].strategy.members])
    assert np.mean(chosen) > 0.85 + 0.015
    assert np.mean(chosen) > np.mean(once)


def test_without_validation_the_largest_capped_intra_d_decides() -> None:
    listed = [candidate(0, 1, 2, intra_d=0.9), candidate(0, 1, intra_d=0.9), candidate(3, 4)]
    choice = choose_unvalidated(listed, "the data have one class")
    assert choice.chosen == listed[1] and choice.trained == 0
    assert "the data have one class, so the largest capped Intra-d decides" in choice.reason
    with pytest.raises(InputError):
        choose_unvalidated([], "nothing")
    with pytest.raises(InputError, match="at least one candidate"):
        choose_validated([], SCORES, Classifiers({}), seed=0)


def features(seed: int, n: int = 80, classes: int = 2, dim: int = 6) -> LabelledFeatures:
    """Classes that two features tell apart, nearly."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    made = rng.normal(size=(n, dim)).astype(np.float32)
    made[np.arange(n), labels % dim] += 3
    return LabelledFeatures(made, labels.astype(np.int64))


def test_a_generator_with_swapped_labels_is_found_by_a_probe() -> None:
    """Same images, same scores; only validation can tell."""
    honest = {name: features(seed) for seed, name in enumerate(SCORES.names)}
    swapped = {n: LabelledFeatures(s.features, 1 - s.labels) for n, s in honest.items()}
    members = {n: (swapped if n[1] in "13" else honest)[n] for n in SCORES.names}
    probe = LinearProbe(features(90), features(91), members, 2)
    listed = [candidate(i, i + 1, intra_d=0.9 if i in (2, 6) else 0.8) for i in (0, 2, 4, 6)]
    choice = choose_validated(
        listed, SCORES, probe, seed=0, seeds=2, finalists=2, greedy_steps=0, most_members=2
    )
    assert choice.chosen.members[0][1] in "02"


def test_the_example_of_the_docs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "downstream.md").read_text()
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", page, re.S)
        if "make_shortlist" in block
    ]
    scores = make_scores([0.9, 0.8, 0.7, 0.6], [0.6, 0.7, 0.5, 0.4])
    names = scores.names
    points = (FrontPoint(names[:2], 0.9, 0.5, 0.9, 0.9), FrontPoint(names[1:3], 0.7, 0.4, 0.7, 0.7))
    space = {
        "scores": scores,
        "front": Front(("intra_d:max", "inter_d:min"), "made", 0, 2, 2, 0.1, 0.5, points),
        "real": features(90),
        "val": features(91),
        "members": {name: features(seed) for seed, name in enumerate(names)},
    }
    exec(code, space)
    said = capsys.readouterr().out
    assert "validated: 2 members" in said and names[1] in said
