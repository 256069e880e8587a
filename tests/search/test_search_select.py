"""Selection rules on a front small enough to reckon by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ensgan.errors import DataError, InputError
from ensgan.search import SelectionRule, cautions, rules, select
from ensgan.search.selection import RULES
from ensgan.types import Front, FrontPoint


def point(intra: float, inter: float, size: int) -> FrontPoint:
    return FrontPoint(tuple(f"G@{i + 1}" for i in range(size)), intra, inter, intra, intra)


FRONT = Front(
    ("intra_d:max", "inter_d:min:symmetric"),
    "pareto-local",
    0,
    10,
    10,
    0.1,
    0.9,
    (point(1.0, 0.8, 6), point(0.9, 0.3, 4), point(0.8, 0.1, 3), point(0.2, 0.01, 2)),
)


@pytest.mark.parametrize(
    ("rule", "size"),
    [
        ("knee", 3),
        ("ratio", 2),
        ("utopia", 3),
        ("max-intra", 6),
        ("min-inter", 2),
        ("max-size:2", 2),
        ("max-size:5", 3),
    ],
)
def test_each_rule_picks_its_point(rule: str, size: int) -> None:
    selection = select(FRONT, rule)
    assert len(selection.point.members) == size
    assert f"{selection.point.intra_d:.3f}" in selection.reason
    assert f"{size} members" in selection.reason
    assert selection.point not in selection.alternatives


COSTS = (9.0, 1.0, 8.0, 4.0)
THREE = replace(
    FRONT,
    objectives=(*FRONT.objectives, "cost:min"),
    points=tuple(
        replace(p, measures=(("cost", cost),)) for p, cost in zip(FRONT.points, COSTS, strict=True)
    ),
)


@pytest.mark.parametrize(
    ("rule", "size", "why"),
    [
        # Scaled, 1 the better: (1, 0, 0), (.875, .63, 1), (.75, .89, .125), (0, 1, .625).
        ("knee", 4, "plane through the corners"),
        ("utopia", 4, "ideal corner"),
        ("max-size:3", 3, "small ensembles"),
        ("ratio", 2, "largest Intra-d / Inter-d (cost left aside)"),
        ("max-intra", 6, "largest Intra-d"),
        ("min-inter", 2, "smallest Inter-d"),
    ],
)
def test_a_third_objective_counts_where_the_rule_says_so(rule: str, size: int, why: str) -> None:
    selection = select(THREE, rule)
    assert len(selection.point.members) == size
    assert why in selection.reason
    cost = dict(selection.point.measures)["cost"]
    assert f"Inter-d {selection.point.inter_d:.3f}, cost {cost:g}, {size} members" in (
        selection.reason
    )


def test_of_equal_ends_the_cheaper_point_wins() -> None:
    twin = replace(THREE.points[0], measures=(("cost", 5.0),))
    front = replace(THREE, points=(THREE.points[0], twin))
    assert dict(select(front, "max-intra").point.measures) == {"cost": 5.0}


def test_a_point_without_the_third_value_is_refused() -> None:
    front = replace(THREE, points=FRONT.points)
    with pytest.raises(DataError, match="third objective is cost, but the point of G@1"):
        select(front)


FRECHET = replace(
    FRONT,
    objectives=("frechet:max:1-d/scale", "frechet_between:min:1-d/scale"),
    points=(
        replace(point(0.9, 0.5, 3), measures=(("frechet", 1.0), ("frechet_between", 5.0))),
        replace(point(0.4, 0.1, 2), measures=(("frechet", 6.0), ("frechet_between", 9.0))),
    ),
)


def test_the_frechet_form_has_its_own_names_and_ratio() -> None:
    chosen = select(FRECHET, "ratio")  # 5 to 1 against 1.5 to 1; reversed it would be 1.8 to 4
    assert len(chosen.point.members) == 3
    far = replace(FRECHET.points[1], measures=(("frechet", 1.0), ("frechet_between", 9.0)))
    other = replace(FRECHET, points=(FRECHET.points[0], far))
    assert select(other, "ratio").point == far
    assert "largest distance between members / distance to the real images" in chosen.reason
    assert "Fréchet closeness 0.900, Fréchet overlap 0.500, 3 members" in chosen.reason
    assert "largest Fréchet closeness" in select(FRECHET, "max-intra").reason
    bare = replace(FRECHET, points=tuple(replace(p, measures=()) for p in FRECHET.points))
    with pytest.raises(InputError, match="'ratio' needs the distance between members and Fréchet"):
        select(bare, "ratio")
    assert "smallest Fréchet overlap" in select(bare, "min-inter").reason


def test_zero_overlap_wins_the_ratio() -> None:
    front = replace(FRONT, points=(*FRONT.points, point(0.1, 0.0, 2)))
    assert select(front, "ratio").point.inter_d == 0.0


def test_downstream_takes_the_best_validation_score() -> None:
    selection = select(FRONT, "downstream", validation_scores=[0.5, 0.9, 0.7, 0.6])
    assert len(selection.point.members) == 4
    with pytest.raises(InputError, match="needs the validation score"):
        select(FRONT, "downstream")
    with pytest.raises(InputError, match="4 finite numbers"):
        select(FRONT, "downstream", validation_scores=[0.5])


@pytest.mark.parametrize("count", [1, 2])
def test_tiny_fronts(count: int) -> None:
    front = replace(FRONT, points=FRONT.points[:count])
    for rule in ("knee", "ratio", "utopia", "max-intra", "min-inter"):
        assert select(front, rule).point in front.points


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("kneee", "did you mean 'knee'"),
        ("max-size", "write max-size:K"),
        ("max-size:x", "needs a number"),
        ("max-size:1", "needs a number"),
        ("knee:3", "write knee alone"),
    ],
)
def test_unknown_rules_are_refused(rule: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        select(FRONT, rule)


def test_an_empty_front_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        select(replace(FRONT, points=()))
    with pytest.raises(InputError, match="at most 2 members"):
        select(replace(FRONT, points=FRONT.points[:2]), "max-size:2")


def test_rules_are_listed() -> None:
    assert set(rules()) == {
        "knee",
        "ratio",
        "utopia",
        "max-intra",
        "min-inter",
        "max-size",
        "validated",
        "downstream",
    }


def test_validated_without_images_is_the_largest_first_objective_then_the_fewest_members() -> None:
    points = (
        FrontPoint(("a", "b", "c"), 0.9, 0.2),
        FrontPoint(("a", "b"), 0.9 - 1e-14, 0.3),
        FrontPoint(("b", "c"), 0.8, 0.1),
    )
    chosen = select(replace(FRONT, points=points), "validated")
    assert chosen.point == points[1]
    assert "then fewest members; a front alone has no images to validate with" in chosen.reason


@pytest.mark.parametrize(
    ("alone", "first", "said"),
    [
        ({"A@1": 0.6, "B@1": 0.5}, 0.55, []),
        ({"A@1": 0.0, "B@1": 0.0}, 0.0, ["no member of the pool reaches any real image yet"]),
        (
            {"A@1": 0.652, "B@1": 0.0001},
            0.399,
            [
                "B@1 reaches no real image yet (Intra-d 0.000) and makes 50% of the images of G*",
                "G* (Intra-d 0.399) is below the best single member, A@1 (0.652)",
            ],
        ),
    ],
)
def test_what_is_wrong_with_an_ensemble_is_said(
    alone: dict[str, float], first: float, said: list[str]
) -> None:
    found = cautions(FrontPoint(("A@1", "B@1"), first, 0.1), alone)
    assert len(found) == len(said)
    assert all(text.startswith(words) for text, words in zip(found, said, strict=True))


def test_a_first_objective_that_is_no_intra_d_is_not_compared_with_it() -> None:
    chosen = FrontPoint(("A@1", "B@1"), 0.1, 0.1, keys=("frechet", "inter"))
    assert cautions(chosen, {"A@1": 0.6, "B@1": 0.5}) == ()
    capped = FrontPoint(("A@1", "B@1"), 0.4, 0.1, measures=(("intra_d_paper", 0.55),))
    assert cautions(capped, {"A@1": 0.6, "B@1": 0.5}) == ()


@pytest.mark.parametrize(
    ("merit", "message"),
    [
        (lambda asked: 1 / 0, "'mine' failed: ZeroDivisionError: division by zero"),
        (lambda asked: None, "must give each of the front's 4 points a number"),
        (lambda asked: asked.better, "must give each of the front's 4 points a number"),
        (lambda asked: asked.better[:, 0] * np.nan, "must give each of the front's 4 points"),
        (lambda asked: np.full(4, -np.inf), "not exclude all of them"),
        (7, "'mine' failed: TypeError: 'int' object is not callable"),
    ],
)
def test_a_rule_of_ones_own_that_fails_is_one_sentence(
    merit: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RULES, "_variants", dict(RULES._variants))
    RULES.register(SelectionRule("mine", merit, lambda front: "mine"))
    with pytest.raises(InputError, match=re.escape(message)):
        select(FRONT, "mine")
