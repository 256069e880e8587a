"""``ensgan zoo``: a table that 80 columns hold, and what cannot be built below it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from ensgan.cli.app import app
from ensgan.zoo import names


def shown(*options: str, columns: int = 80) -> list[str]:
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, ["zoo", *options])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_eighty_columns_hold_every_name_and_number() -> None:
    lines = shown()
    assert max(len(line) for line in lines) <= 80
    assert "…" not in "".join(lines)
    rows = {line.split()[0]: line.split() for line in lines if line.split()[0] in names()}
    assert len(rows) == 22
    assert rows["SNGAN"][:6] == ["SNGAN", "ResNet", "PD", "Hinge", "4,275,201", "1,051,521"]
    assert 0.3 < float(rows["SNGAN"][-1]) < 1


def test_what_cannot_be_built_is_told_once_with_its_rule() -> None:
    lines = shown("--image-size", "128", "--width", "0.0625", columns=400)
    (reason,) = [line for line in lines if line.startswith("not for this data")]
    assert "BigGAN, BigGAN-ADA" in reason and "6 equal chunks" in reason
    big = next(line for line in lines if line.startswith("BigGAN "))
    assert big.split()[-3:] == ["–", "–", "–"]


@pytest.mark.parametrize("option", ["--channels", "--classes", "--image-size"])
def test_sizes_below_the_lowest_are_wrong_usage(option: str) -> None:
    result = CliRunner().invoke(app, ["zoo", option, "0"])
    assert result.exit_code == 2 and option in result.output


def test_json_says_which_rule_a_row_breaks() -> None:
    result = CliRunner().invoke(app, ["zoo", "--json", "--classes", "1", "--width", "0.0625"])
    rows = {row["name"]: row for row in json.loads(result.output)["gans"]}
    assert rows["SNGAN"]["problems"] == []
    assert "at least 2 classes" in rows["ACGAN-Mod"]["problems"][0]
    assert rows["ACGAN-Mod"]["generator_parameters"] is None
