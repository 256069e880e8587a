"""The form of ``train.vary``: what is refused, all at once and in sentences."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensgan.config import parse_spec
from ensgan.errors import ConfigError

FIELDS = ("ADA.target", "DiffAugment.cutout", "Adam.betas")


def parsed(vary: Any) -> Any:
    tree = {"name": "s", "dataset": {"name": "phantom"}, "train": {"vary": vary}}
    return parse_spec(tree, known={"field of a part": FIELDS}).train.vary


def problems(vary: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parsed(vary)
    return caught.value.problems


@pytest.mark.parametrize(
    "vary",
    [
        None,
        {"seed": [0, 1], "learning_rate": [0.5, 1], "ADA.target": [0.4], "weights": ["raw"]},
        {"sample": 3, "from": {"width": [0.5, 1], "batch": {"log": [8, 64]}}, "method": "random"},
        {"sample": 20, "from": {"width": [0.5, 1]}, "search": "nsga2"},
        [{"name": "fast", "learning_rate": 2.0}, {"Adam.betas": [0.0, 0.99]}, {"name": "as-is"}],
    ],
)
def test_the_three_forms_are_kept_as_they_are_written(vary: Any) -> None:
    assert parsed(vary) == vary


def test_a_grid_reports_all_its_problems() -> None:
    found = problems(
        {
            "sede": [1],
            "ADA.targt": [1],
            "snapshots": [2, 5],
            "learning_rate": [],
            "seed": 3,
            "width": [9, "x", None],
            "batch": [8, 8],
            "DiffAugment.cutout": [{"a": 1}],
        }
    )
    for sentence, expected in zip(
        found,
        (
            "train.vary: unknown setting to vary 'sede': did you mean 'seed'?",
            "train.vary: unknown setting to vary 'ADA.targt': did you mean 'ADA.target'?",
            "train.vary: 'snapshots' cannot be varied: every training",
            "train.vary.learning_rate: the list is empty",
            "train.vary.seed: write a list of values, not 3",
            "train.vary.width: input should be less than or equal to 4, not 9",
            "train.vary.width: input should be a valid number, not 'x'",
            "train.vary.width: a value is a number",
            "train.vary.batch: 8 occurs twice",
            "train.vary.DiffAugment.cutout: a value is a number",
        ),
        strict=True,
    ):
        assert sentence.startswith(expected)


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        (3, "train.vary: must be a grid"),
        ({}, "train.vary: is empty"),
        ([], "train.vary: the list is empty"),
        ({"from": {"seed": [1]}}, "train.vary.sample: is required"),
        ({"sample": 2.5, "from": {"seed": [1]}}, "train.vary.sample: must be a number of draws"),
        ({"sample": 2}, "train.vary.from: must name settings"),
        ({"sample": 2, "from": {"width": {"log": [0, 1]}}}, "log takes numbers above 0"),
        ({"sample": 2, "from": {"width": {"uniform": [1]}}}, "uniform takes two numbers"),
        ({"sample": 2, "from": {"width": {"normal": [0, 1]}}}, "write a list, {uniform: [low"),
        ({"sample": 2, "from": {"width": {"uniform": [1, 9]}}}, "less than or equal to 4, not 9"),
        ({"sample": 2, "from": {"seed": [1]}, "method": "sobl"}, "unknown method 'sobl'"),
        ({"sample": 2, "from": {"seed": [1]}, "search": "tpee"}, "did you mean 'tpe'?"),
        ({"sample": 2, "from": {"seed": [1]}, "search": None}, "search: unknown search 'None'"),
        ({"search": "tpe", "sample": 2}, "train.vary.from: must name settings"),
        ({"search": "tpe", "from": {"seed": [1]}}, "train.vary.sample: is required"),
        ({"sample": 2, "from": {"seed": [1]}, "metod": 1}, "did you mean 'method'?"),
        ([3], "train.vary[0]: a variant is a mapping"),
        ([{}], "train.vary[0]: is empty"),
        ([{"name": "a/b"}], "train.vary[0].name: 'a/b' cannot be part of a file's name"),
        ([{"seed": 1}, {"seed": 1}], "train.vary[1]: {'seed': 1} occurs twice"),
        ([{"sed": 1}], "did you mean 'seed'?"),
    ],
)
def test_one_problem_one_sentence(vary: Any, expected: str) -> None:
    (problem,) = problems(vary)
    assert expected in problem and "\n" not in problem


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["seed", "width", "sample", "from", "log", "name"]), inner
        )
    ),
    max_leaves=12,
)


@given(VALUES)
def test_whatever_is_written_is_taken_or_refused(vary: Any) -> None:
    try:
        parsed(vary)
    except ConfigError as error:
        assert all(problem.startswith("train.vary") for problem in error.problems)


def test_a_hundred_thousand_values_are_looked_through_at_once() -> None:
    """Comparing each with all before would take minutes."""
    many = list(range(100_000))
    assert problems({"seed": [*many, 7]}) == ("train.vary.seed: 7 occurs twice",)
    assert len(parsed([{"seed": number} for number in many])) == len(many)
    (found,) = problems([{"Adam.betas": [0, 1]}, {"Adam.betas": [0.0, 1.0]}])
    assert found == "train.vary[1]: {'Adam.betas': [0.0, 1.0]} occurs twice"
