"""Bad input to ``ensgan sweep``, ``train`` and ``sync``: one clear message, exit code 2, nothing
written."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_sweep import write_sweep

from ensgan.cli import main
from ensgan.cli.sweep import _first


class Shell:
    """Runs the command in this process."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], storage: Path
    ) -> None:
        self.monkeypatch, self.capsys, self.storage = monkeypatch, capsys, storage

    def __call__(self, *words: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["ensgan", *words, "--storage", str(self.storage)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        shown = self.capsys.readouterr()
        return code, shown.out, shown.err


@pytest.fixture
def shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Shell:
    return Shell(monkeypatch, capsys, tmp_path / "storage")


def refused(shell: Shell, *words: str) -> str:
    code, _, error = shell(*words)
    assert code == 2, error
    assert error.startswith("error: ") and "Traceback" not in error
    assert not list(shell.storage.glob("sweeps/*/manifest.json"))
    return error


def test_all_problems_of_a_file_at_once(shell: Shell, tmp_path: Path) -> None:
    sweep = write_sweep(
        tmp_path,
        dataset={"name": "phantm"},
        train={"gans": ["SNGA"], "steps": 7, "stepz": 1},
        embed={"extractor": "swavv"},
        select={"rule": "kne"},
        evaluate={"strategies": ["reall"], "repeats": "two"},
    )
    error = refused(shell, "sweep", str(sweep))
    for expected in (
        "did you mean 'phantom'",
        "did you mean 'SNGAN'",
        "2 snapshots do not divide 7 steps",
        "train.stepz: unknown key: did you mean 'steps'",
        "did you mean 'swav'",
        "did you mean 'knee'",
        "did you mean 'real'",
        "evaluate.repeats: ",
        "not 'two'",
    ):
        assert expected in error


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no such file"),
        (b"PK\x03\x04 cut short", "pneumoniamnist.npz"),
        ("wrong checksum", "accept"),
    ],
)
def test_unusable_data_files(
    shell: Shell,
    tmp_path: Path,
    content: bytes | str | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # no network in this test
    sweep = write_sweep(tmp_path, dataset={"name": "pneumoniamnist", "options": {}})
    folder = tmp_path / "data"
    folder.mkdir()
    if isinstance(content, bytes):
        (folder / "pneumoniamnist.npz").write_bytes(content)
    elif content is not None:
        splits = {}
        for split in ("train", "val", "test"):
            splits[f"{split}_images"] = np.zeros((4, 28, 28), np.uint8)
            splits[f"{split}_labels"] = np.array([[0], [1], [0], [1]], np.uint8)
        np.savez(folder / "pneumoniamnist.npz", **splits)
    code, _, error = shell("sweep", str(sweep), "--data-dir", str(folder))
    assert code in (1, 2) and error.startswith("error: ") and "Traceback" not in error
    assert "pneumoniamnist.npz" in error
    if content is not None:
        assert code == 2 and expected in error


def test_too_few_images_for_a_batch(shell: Shell, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, train={"batch": 64, "d_updates": 5})
    error = refused(shell, "sweep", str(sweep))
    assert "5 × 64 = 320 real images" in error and "has 160" in error


def test_strategies_that_the_pool_can_never_have(shell: Shell, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, evaluate={"strategies": ["real", "random:5"]})
    error = refused(shell, "sweep", str(sweep))
    assert "evaluate.strategies: strategy 'random:5' asks for 5 members" in error


def test_a_storage_that_cannot_be_written(shell: Shell, tmp_path: Path) -> None:
    shell.storage.write_text("a file, not a folder")
    sweep = write_sweep(tmp_path)
    code, _, error = shell("sweep", str(sweep), "--address", "none")
    assert code in (1, 2) and "cannot write" in error and "Traceback" not in error


def test_a_dry_run_says_when_it_cannot_know_the_gpus(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    sweep = write_sweep(tmp_path, cluster={"gpus_per_trial": 0.5})
    code, out, _ = shell("sweep", str(sweep), "--dry-run")
    said = " ".join(out.split())
    assert code == 0 and "no GPU here: slots are those of one" in said and "GPU-hours)" in said
    assert "hours in float32: GANs by the operations of a step and rates fitted to captured" in said
    assert "of one NVIDIA H200 (in float32: the rate of its products, no step was timed)" in said
    code, out, _ = shell("sweep", str(sweep), "--dry-run", "--set", "train.precision=auto")
    assert "hours in bfloat16 (auto): GANs by" in out and "in float32" not in out
    code, out, _ = shell("sweep", str(sweep), "--dry-run", "--set", "train.precision=tf32")
    assert code == 0 and "hours in tf32: " in out, "the trials' cards are not this process's"
    code, out, _ = shell("sweep", str(write_sweep(tmp_path)), "--dry-run")
    assert code == 0 and "no GPU here" not in out


def test_a_dry_run_refuses_an_address_that_can_be_no_store(shell: Shell, tmp_path: Path) -> None:
    words = ("--dry-run", "--set", "track.uri=file:///tmp/mlruns")
    code, _, error = shell("sweep", str(write_sweep(tmp_path)), *words)
    assert code == 2 and "is no tracking address" in error


def test_a_dry_run_refuses_a_storage_that_is_a_file(shell: Shell, tmp_path: Path) -> None:
    shell.storage.write_text("years of work")
    code, _, error = shell("sweep", str(write_sweep(tmp_path)), "--dry-run")
    assert code == 2 and "is no folder that you may write to" in error
    assert shell.storage.read_text() == "years of work"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dry-run", "--gpu-hours", "nan"), "--gpu-hours must be a number"),
        (("--dry-run", "--deadline", "99:99"), "--deadline '99:99'"),
        (("--dry-run", "--notify", "http://h/x"), "--notify"),
        (("--address", "ray://h:1"), "run the same command inside it"),
        (("--address", "127.0.0.1:1"), "nobody answers there"),
    ],
)
def test_what_no_sweep_can_use_is_refused_before_any_work(
    shell: Shell, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, _, error = shell("sweep", str(write_sweep(tmp_path)), *words)
    assert code == 2 and re.search(message, error), error
    assert not shell.storage.exists()


def test_dry_run_as_json(shell: Shell, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path)
    code, out, _ = shell("sweep", str(sweep), "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0 and plan["members"] == 4 and plan["images"] == 4 * 160
    assert [row["gan"] for row in plan["rows"]] == ["SNGAN", "ACGAN-Mod"]
    assert all(row["seconds_per_step"] > 0 and row["memory_bytes"] > 0 for row in plan["rows"])
    assert plan["disk_bytes"] > 0 and not shell.storage.exists()


def test_train_one_gan(shell: Shell, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, train={"steps": 2})
    code, out, _ = shell("train", str(sweep), "--gan", "SNGAN", "--json")
    last = json.loads(out.splitlines()[-1])
    assert code == 0 and [m["name"] for m in last["members"]] == ["SNGAN@1", "SNGAN@2"]
    assert "did you mean 'SNGAN'" in shell("train", str(sweep), "--gan", "SNGA")[2]


def test_sync_of_an_unknown_sweep(shell: Shell) -> None:
    error = refused(shell, "sync", "nothing")
    assert "unknown sweep or run 'nothing'" in error or "holds no sweeps" in error


def test_unknown_run(shell: Shell) -> None:
    code, _, error = shell("show", "deadbeef")
    assert code == 2 and "deadbeef" in error and "ensgan runs" in error


def test_the_first_command_is_for_shells_that_do_not_find_ensgan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert _first() == "  first   source .venv/bin/activate\n"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ensgan").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert _first() == ""
