"""docs/data.md: its commands and its Python run, its tables are the options."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from ensgan.cli import app
from ensgan.data import DATASETS, Option

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


COMMANDS = [
    line for block in blocks("bash") for line in block.splitlines() if line.startswith("ensgan ")
]


@pytest.fixture
def workplace(
    tmp_path: Path,
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_dicom: Callable[..., Path],
) -> Path:
    rng = np.random.default_rng(0)
    for index in range(40):
        path = tmp_path / "my-xrays" / ("normal", "opacity")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50), dtype=np.uint8)).save(path)
    shutil.copy(shared / "data" / "pneumoniamnist.npz", tmp_path / "my-set.npz")
    table, boxes = ["ImageFile,Prognosis"], ["ImageFile,left,top,right,bottom"]
    for index in range(12):
        values = rng.integers(0, 4096, (40, 40)).astype(np.uint16)
        write_dicom(tmp_path / "covid" / f"P_{index}.dcm", values)
        table.append(f"P_{index},{('MILD', 'SEVERE')[index % 2]}")
        boxes.append(f"P_{index},5,5,30,35")
    (tmp_path / "covid" / "clinical.csv").write_text("\n".join(table))
    (tmp_path / "covid" / "boxes.csv").write_text("\n".join(boxes))
    monkeypatch.setenv("ENSGAN_DATA", str(shared / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_runs(workplace: Path) -> None:
    assert len(COMMANDS) >= 6
    for command in COMMANDS:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        # PneumoniaMNIST as published has eight images of train in val as well.
        leaks = "pneumoniamnist" in command or "my-set.npz" in command
        assert result.exit_code == leaks, f"{command}: {result.output} {result.exception}"


def test_the_python_runs() -> None:
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, str(PAGE), "exec"), names)
    image, label = names["torch_set"][0]  # type: ignore[index]
    assert image.shape == (1, 32, 32)
    assert image.dtype == torch.float32
    assert -1 <= image.min() < -0.5 < image.max() <= 1
    assert label in (0, 1)


def row(option: Option) -> str:
    default = option.default
    shown = (
        "–" if default is None else str(default).lower() if isinstance(default, bool) else default
    )
    choices = f" ({', '.join(map(str, option.choices))})" if option.choices else ""
    return f"| `{option.name}` | {shown} | {option.summary}{choices} |"


def test_every_option_is_in_the_page_as_it_is() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    tables = {source.options for source in DATASETS}
    documented = [line for line in lines if line.startswith("| `")]
    expected = [row(option) for options in tables for option in options]
    assert sorted(documented) == sorted(expected)
    for name in DATASETS.names():
        assert f"`{name}`" in "\n".join(lines)
