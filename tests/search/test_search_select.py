"""Selection rules on a front small enough to reckon by hand."""

from __future__ import annotations

import pytest

from ensgan.errors import InputError
from ensgan.search import rules, select
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


def test_zero_overlap_wins_the_ratio() -> None:
    from dataclasses import replace

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
    from dataclasses import replace

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
    from dataclasses import replace

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
        "downstream",
    }
