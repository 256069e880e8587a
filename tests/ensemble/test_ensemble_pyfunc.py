from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas
import pytest

from ensgan.ensemble import load_ensemble
from ensgan.ensemble.pyfunc import _load_pyfunc
from ensgan.errors import InputError, IntegrityError


def test_requests_as_mapping_or_table(intact: Path) -> None:
    model = _load_pyfunc(str(intact))
    wanted = load_ensemble(intact).sample(2, [1, 0], seed=5)
    rows = model.predict({"n": 2, "labels": [1, 0], "seed": 5})
    assert [row["class"] for row in rows] == ["pneumonia", "normal"]
    assert [row["member"] for row in rows] == [wanted.member_names[i] for i in wanted.members]
    table = pandas.DataFrame([{"n": 2, "labels": [1, 0], "seed": 5}, {"n": 1}])
    assert model.predict(table)[:2] == rows
    assert len(model.predict(table)) == 3


@pytest.mark.parametrize("value", [{}, {"n": "x"}, {"n": 1, "code": "os"}, {"n": 1, "labels": 3}])
def test_bad_requests(intact: Path, value: Any) -> None:
    with pytest.raises(InputError):
        _load_pyfunc(str(intact)).predict(value)


def test_mlflow_gets_no_unverified_ensemble(folder: Path) -> None:
    (folder / "README.md").write_text("changed")
    with pytest.raises(IntegrityError):
        _load_pyfunc(str(folder))
