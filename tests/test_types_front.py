"""Front files with values that no ensemble has."""

from __future__ import annotations

from typing import Any

import pytest

from ensgan.errors import DataError
from ensgan.types import Front, FrontPoint

POINT = FrontPoint(("A", "B"), 0.8, 0.2, 0.8, 0.9, weights=(0.25, 0.75))
FRONT = Front(("intra_d:max", "inter_d:min"), "made", 0, 1, 1, 0.0, 0.6, (POINT,))


@pytest.mark.parametrize(
    "values",
    [
        {"density": -5.0},
        {"coverage": 7.0},
        {"members": []},
        {"members": ["A", "A"]},
        {"members": "abc"},
        {"weights": [9.0, 9.0]},
        {"weights": [0.2, 0.3, 0.5]},
        {"weights": [float("nan"), 1.0]},
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, Any]) -> None:
    tree = FRONT.to_json()
    assert Front.from_json(tree).points == (POINT,)
    tree["points"][0].update(values)
    with pytest.raises(DataError, match="is not a front file"):
        Front.from_json(tree)


@pytest.mark.parametrize("values", [{"trials": -1}, {"seconds": -0.5}, {"points": {}}])
def test_a_search_that_cannot_be_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"greater than or equal to 0, not -|points must be a list"):
        Front.from_json(FRONT.to_json() | values)
