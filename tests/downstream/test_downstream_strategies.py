"""Names of strategies become members, or are refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ensgan.downstream import (
    STRATEGIES,
    Strategy,
    build_strategies,
    check_strategies,
    reweighted,
)
from ensgan.errors import InputError
from ensgan.types import Front, FrontPoint, PoolScores, Selection

NAMES = ("SNGAN@10", "SNGAN@20", "SAGAN@20", "SAGAN@10", "ACGAN@10", "ACGAN@20")


def make_scores(names: tuple[str, ...] = NAMES) -> PoolScores:
    m = len(names)
    density = np.linspace(0.1, 0.9, m)
    square = np.full((m, m), 0.5)
    np.fill_diagonal(square, np.nan)
    masks = np.zeros((m, 2), np.uint8)
    counts = np.full(m, 9, np.int64)
    return PoolScores(names, density, density, masks, square, 5, 16, counts)


POINTS = (
    FrontPoint(NAMES[:3], 0.9, 0.8, 0.9, 0.9, (0.5, 0.25, 0.25)),
    FrontPoint(NAMES[1:3], 0.6, 0.2, 0.6, 0.6),
    FrontPoint(NAMES[4:], 0.3, 0.1, 0.3, 0.3),
)


FRONT = Front(("intra_d:max", "inter_d:min:symmetric"), "random", 0, 9, 9, 0.1, 0.5, POINTS)


CHOSEN = Selection("knee", POINTS[1], "the knee")


def build(*names: str, scores: PoolScores | None = None, chosen: Selection = CHOSEN):
    scores = scores or make_scores()
    return build_strategies(names, scores=scores, front=FRONT, selection=chosen, seed=3)


def test_names_become_members() -> None:
    found = build(
        "real", "best-single", "single:SAGAN@10", "all", "last", "steps:SAGAN", "selected",
        "selected:max-intra", "by-intra", "by-intra:all", "real+synthetic:3", "front:2",
    )  # fmt: skip
    members = {strategy.name: strategy.members for strategy in found}
    assert members == {
        "real": (),
        "best-single": ("ACGAN@20",),
        "single:SAGAN@10": ("SAGAN@10",),
        "all": NAMES,
        "last": ("SNGAN@20", "SAGAN@20", "ACGAN@20"),
        "steps:SAGAN": ("SAGAN@10", "SAGAN@20"),
        "selected": POINTS[1].members,
        "selected:max-intra": POINTS[0].members,
        "by-intra": POINTS[1].members,
        "real+synthetic:3": POINTS[1].members,
        "by-intra:all": NAMES,
        "front:2/1": POINTS[0].members,
        "front:2/2": POINTS[2].members,
    }
    kinds = {strategy.name: (strategy.kind, strategy.n_times) for strategy in found}
    assert kinds["real"] == ("real", 1)
    assert kinds["real+synthetic:3"] == ("real+synthetic", 3)
    by_name = {strategy.name: strategy for strategy in found}
    assert by_name["selected:max-intra"].weights == POINTS[0].weights
    assert by_name["by-intra"].weights == tuple(make_scores().intra_d[1:3])


EXAMPLES = {"NAME": NAMES[0], "GAN": "SNGAN", "K": "3", "N": "2", "RULE": "max-intra"}


@pytest.mark.parametrize("form", list(STRATEGIES), ids=lambda form: form.head)
def test_every_form_resolves_as_it_is_written(form) -> None:
    """The contract of a strategy, those of installed packages among them."""
    argument = form.written.partition(":")[2].rstrip("]")
    names = [f"{form.head}:{EXAMPLES.get(argument, argument)}"] if argument else []
    names += [form.head] if form.argument != "required" else []
    for name in names:
        check_strategies([name], NAMES)
        found = build(name)
        assert found == build(name), "the same seed gives the same strategies"
        assert {strategy.group.partition("/")[0] for strategy in found} == {name}
        assert all(set(strategy.members) <= set(NAMES) for strategy in found)
    if form.argument == "none":
        with pytest.raises(InputError, match="not of a known form"):
            check_strategies([f"{form.head}:1"], NAMES)


def test_every_form_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "downstream.md").read_text()
    for form in STRATEGIES:
        assert f"| `{form.written}` |" in page, form.written


def test_controls_take_the_members_of_their_namesakes_beside_real_images() -> None:
    pairs = {"real+all": "all", "real+best-single": "best-single", "real+random:2": "random:2"}
    for control, plain in pairs.items():
        found, alone = build(control), build(plain)
        assert [s.members for s in found] == [s.members for s in alone]
        assert {(s.kind, s.n_times) for s in found} == {("real+synthetic", 1)}
    (changed,) = build("real+augment:2")
    assert (changed.kind, changed.members, changed.n_times) == ("real+augment", (), 2)
    (long,) = build("real:10")
    assert (long.kind, long.n_times) == ("real", 10)


def test_random_draws_are_distinct_reproducible_sets() -> None:
    draws = build("random:3")
    assert [strategy.name for strategy in draws] == [f"random:3#{i}" for i in range(3)]
    assert all(len(set(strategy.members)) == 3 for strategy in draws)
    assert len({strategy.members for strategy in draws}) > 1
    assert build("random:3") == draws
    assert len(build("random:2x7")) == 7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("selectd", "did you mean 'selected'"),
        ("single:SAGAN@11", "did you mean 'SAGAN@10'"),
        ("single", "single:NAME"),
        ("steps:SNGN", "did you mean 'SNGAN'"),
        ("random:7", "7 members, but the pool has 6"),
        ("random:x", "random:K"),
        ("random:0", "random:K"),
        ("random:2x0", "random:K"),
        ("random:²", "random:K"),
        ("random", "random:K"),
        ("front:0", "front:K"),
        ("real:0", "write real:N with a whole number"),
        ("real:", "known form"),
        ("real+all:2", "known form"),
        ("real+random:7", "7 members, but the pool has 6"),
        ("real+random:x", "real\\+random:K"),
        ("real+synthetic:0", "whole number"),
        ("by-intra:some", "'all' or 'selected'"),
        ("dynamic", "unknown strategy"),
        ("selected:downstream", "validation scores"),
        ("selected:kneee", "knee"),
    ],
)
def test_bad_names_are_explained(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(name)


def test_repeated_names_are_refused() -> None:
    with pytest.raises(InputError, match="named twice: all"):
        build("all", "real", "all")


def test_generators_from_elsewhere_have_one_snapshot() -> None:
    names = ("SNGAN@1", "SNGAN@2", "mine", "yours")
    (last,) = build("last", scores=make_scores(names))
    assert last.members == ("SNGAN@2", "mine", "yours")
    (steps,) = build("steps:mine", scores=make_scores(names))
    assert steps.members == ("mine",)


@pytest.mark.parametrize(
    "values",
    [
        {"members": ()},
        {"members": ("A@1",), "kind": "real"},
        {"members": ("A@1", "A@1")},
        {"members": ("A@1",), "weights": (0.0,)},
        {"members": ("A@1",), "weights": (0.5, 0.5)},
        {"members": ("A@1",), "weights": (float("nan"),)},
        {"members": ("A@1",), "n_times": 0},
    ],
)
def test_impossible_strategies_are_refused(values) -> None:
    with pytest.raises(InputError):
        Strategy("s", **values)


def test_reweighting_replaces_weights_and_multiplies_images() -> None:
    scores = make_scores()
    plain = build("real", "single:SAGAN@10", "selected:max-intra", "real+synthetic:2")
    assert reweighted(plain, "own", scores) == plain
    real, single, chosen, augmented = reweighted(plain, "uniform", scores, 3)
    assert real == plain[0]
    assert (single.weights, single.n_times) == (None, 3)
    assert (chosen.weights, chosen.n_times) == (None, 3)
    assert augmented.n_times == 6
    by_intra = reweighted(plain, "by-intra", scores)[2]
    assert by_intra.weights == pytest.approx(scores.intra_d[:3].tolist())
    with pytest.raises(InputError, match="did you mean 'uniform'"):
        reweighted(plain, "unifrm", scores)
    with pytest.raises(InputError, match="n_times must be at least 1, not 0"):
        reweighted(plain, "own", scores, 0)


def test_names_are_checked_before_there_are_scores() -> None:
    names = ["real", "last", "random:6", "selected:ratio", "selected:max-size:9", "by-intra:all"]
    check_strategies([*names, "front:9", "steps:SAGAN"], NAMES)
    for name, message in (("random:7", "the pool has 6"), ("steps:X", "unknown GAN")):
        with pytest.raises(InputError, match=message):
            check_strategies([name], NAMES)
