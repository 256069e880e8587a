"""Tables in narrow terminals: columns are left out and named, what is shown is whole."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call
from made_sweep import GANS, make_sweep
from rich.console import Group
from tiny_sweep import write_sweep
from typer.testing import CliRunner

import ensgan.cli
from ensgan.cli.app import app
from ensgan.cli.output import FittingTable, PlainConsole, whole

NAMES = [f"{gan}@{step}" for gan in GANS for step in (1, 2)]
RULE = "─"


def printed(columns: int, *arguments: object) -> list[str]:
    """The lines of a command in a terminal of so many columns."""
    runner = CliRunner(env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    return result.stdout.splitlines()


def table_lines(lines: Sequence[str]) -> Iterator[str]:
    """Headings, rules and rows: from the line above a rule to the next blank line."""
    inside = False
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        inside = (inside and bool(line.strip())) or below.startswith(RULE)
        if inside and not line.startswith("(no room for"):
            yield line


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A made sweep, a pool's features, and what score and search write of them."""
    folder = tmp_path_factory.mktemp("pool")
    make_sweep(folder / "storage")
    rng = np.random.default_rng(0)
    real = rng.normal(size=(60, 4)).astype(np.float32)
    members = {name: real[:50] + rng.normal(size=(50, 4)).astype(np.float32) for name in NAMES}
    fake = np.stack(list(members.values()))
    np.savez(folder / "features.npz", real=real, fake=fake, names=NAMES)
    files = {name: folder / name for name in ("features.npz", "scores.npz", "front.json")}
    printed(120, "score", files["features.npz"], "-o", files["scores.npz"], "-k", 3)
    search = ("--sampler", "exhaustive", "--min-size", 2, "-o", files["front.json"])
    printed(120, "search", files["scores.npz"], *search)
    for name, features in (("real", real), ("fake", members[NAMES[0]])):
        np.save(folder / f"{name}.npy", features)
    spec = write_sweep(folder, train={"gans": ["SNGAN", "ReACGAN-DiffAug"]})
    return {"folder": folder, "storage": folder / "storage", "tiny.yaml": spec, **files}


def filled(word: str, pool: dict[str, Path]) -> str:
    for name, path in pool.items():
        word = word.replace(f"{{{name}}}", str(path))
    return word


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("zoo", ["ReACGAN-DiffAug", "StyleGAN2-DiffAug"]),
        ("doctor", ["safetensors", "tracking"]),
        ("data list", ["pneumoniamnist", "aiforcovid"]),
        ("data check phantom --no-near --option n_train=40", ["normal", "opacity", "test"]),
        (
            "sweep {folder}/tiny.yaml --dry-run --storage {folder}/none",
            ["SNGAN", "ReACGAN-DiffAug"],
        ),
        ("status made --storage {storage}", ["SNGAN@2", "SAGAN@2", "ReACGAN@2"]),
        ("score {features.npz} -k 3 -o {folder}/again.npz", NAMES),
        ("search {scores.npz} --sampler exhaustive -o {folder}/again.json", ["Intra-d", "members"]),
        ("select {front.json} --rule knee --scores {scores.npz}", ["chosen", "alternative"]),
        ("prdc {folder}/real.npy {folder}/fake.npy -k 3", ["precision", "coverage"]),
    ],
)
def test_names_are_whole(
    pool: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
    command: str,
    names: Sequence[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    arguments = [filled(word, pool) for word in command.split()]
    lines = printed(columns, *arguments)
    rows = list(table_lines(lines))
    assert rows and all(len(row.rstrip()) <= columns for row in rows)
    text = "\n".join(lines)
    assert "…" not in "".join(rows)
    assert all(name in text for name in names), text
    assert (columns < 200) or "no room" not in text


@pytest.mark.parametrize("columns", [60, 80])
def test_runs_show_and_compare_keep_ids_and_names(storage: Path, run_id: str, columns: int) -> None:
    listed = printed(columns, "runs", "--storage", storage)
    assert sum(run_id in line and "<b>second</b>" in line for line in listed) == 1
    assert any("finished" in line for line in listed)
    for command in (["show", run_id], ["compare", run_id, "first"], ["verify", run_id]):
        lines = printed(columns, *command, "--storage", storage)
        assert all(len(row.rstrip()) <= columns for row in table_lines(lines))
        assert any("A@1" in line and "B@2" in line for line in lines)


def test_the_comparison_drops_columns(pool: dict[str, Path]) -> None:
    from ensgan.cli.evaluate import comparison_table

    spread = {"mean": 0.9, "sd": 0.01, "low": 0.85, "high": 0.95, "p": 0.04}
    row = {
        "strategy": "random:5 of a long name",
        "members": ["A@1"],
        "metrics": dict.fromkeys(("auc", "accuracy", "g_mean"), spread),
        "gap_closed": {"auc": 0.5},
    }
    table = comparison_table({"reference": "selected", "strategies": [row]})
    lines = shown(table, 60)
    assert any("random:5 of a long name" in line and "0.900±0.010" in line for line in lines)
    assert "(no room for: test images, accuracy, g-mean)" in lines
    assert all(len(line.rstrip()) <= 60 for line in table_lines(lines))


def shown(renderable: Any, columns: int) -> list[str]:
    console = PlainConsole()
    console.width = columns
    with console.capture() as capture:
        console.print(renderable, crop=False)
    return capture.get().splitlines()


def test_columns_go_in_the_order_of_the_spare_ones() -> None:
    table = FittingTable("name", "a", "b", "c", spare=("b", "c", "a"))
    table.add_row("x" * 20, "1" * 10, "2" * 10, "3" * 10)
    assert "no room" not in "".join(shown(table, 60))
    assert shown(table, 50)[-1] == "(no room for: b)"
    assert shown(table, 40)[-1] == "(no room for: b, c)"
    assert shown(table, 25)[-1] == "(no room for: a, b, c)"
    # What does not fit even so is broken into lines, but nothing of it is lost.
    assert "".join(line.strip() for line in shown(table, 12)[2:-1]).count("x") == 20


def test_lines_to_copy_are_never_broken() -> None:
    line = "ensgan report 'a name' --storage '/a/long path/" + "x" * 90 + "'"
    assert shown(Group(whole(line)), 60) == [line]


def test_a_pipe_gets_everything(storage: Path, run_id: str) -> None:
    environment = {name: os.environ[name] for name in os.environ if name != "COLUMNS"}
    command = [sys.executable, "-m", "ensgan", "runs", "--storage", str(storage)]
    for encoding in ("utf-8", "ascii"):
        result = subprocess.run(
            command,
            env={**environment, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=True,
        )
        text = result.stdout.decode(encoding)
        (line,) = [line for line in text.splitlines() if run_id in line]
        assert "phantom" in line and "begun" in text and "?" not in text


def test_every_table_of_a_command_is_one_that_fits() -> None:
    """The exceptions are lists of keys and values, which fold."""
    root = Path(ensgan.cli.__file__).parent
    made = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in root.rglob("*.py")
        if path.name != "output.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Table"
    ]
    assert made == []


def test_splits_keep_their_lines_where_there_is_room() -> None:
    """Scripts of others read them."""
    shown = call("data", "check", "phantom", "--no-near", "--option", "n_train=40")
    assert re.search(r"^│ train │ +40 │", shown, re.MULTILINE)


def test_huge_distances_take_few_digits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    far = {"real": rng.normal(size=(30, 4)), "fake": rng.normal(size=(2, 30, 4))}
    far = {name: values * 1e30 for name, values in far.items()}
    np.savez(tmp_path / "f.npz", names=np.array(["a", "b"]), **far)
    out = CliRunner().invoke(app, ["score", str(tmp_path / "f.npz"), "-o", str(tmp_path / "s.npz")])
    assert out.exit_code == 0, out.output
    assert re.search(r"\d\.\d+e\+\d\d", out.stdout) and not re.search(r"\d{20}", out.stdout)


def test_a_name_of_several_lines_is_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    table = FittingTable("sweep", "AUC")
    table.add_row("mine\nbest   0.99\r\n\x1b[2J", "0.50")
    PlainConsole().print(table)
    assert len(capsys.readouterr().out.splitlines()) == 3
