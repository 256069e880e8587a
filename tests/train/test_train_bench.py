"""The training benchmark at a tiny size: what it does on a GPU runs here on the CPU."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    import bench_train

    return bench_train


def arguments(bench: ModuleType, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    args = parser.parse_args(["--width", "0.03125", "--batch", "2", "--repeats", "1", *more])
    bench.fill_in(args)
    return args


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_one_sentence_and_exit_code_2() -> None:
    result = subprocess.run(
        [sys.executable, SCRIPTS / "bench.py", "train", "--device", "cuda"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == "--device cuda needs an NVIDIA GPU, and torch sees none\n"


def test_on_a_gpu_all_rows_take_full_steps(bench: ModuleType) -> None:
    args = arguments(bench, "--device", "cuda")
    assert (args.rows, args.d_updates, args.concurrency) == ("all", None, bench.FAMILIES)
    assert (arguments(bench).rows, arguments(bench).d_updates) == (bench.FAMILIES, 1)


def test_contestants_apart_and_a_failing_one(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = bench.alone

    def failing(name: str, label: str, args: argparse.Namespace) -> tuple[float, int]:
        if label == "ours_compiled":
            raise RuntimeError("no compiler\nhere")
        return alone(name, label, args)  # type: ignore[no-any-return]

    monkeypatch.setattr(bench, "alone", failing)
    row = bench.compare_apart("SNGAN", arguments(bench), ("plain", "ours", "ours_compiled"))
    assert set(row["seconds_per_step"]) == {"plain", "ours"}
    assert row["errors"] == {"ours_compiled": "RuntimeError: no compiler"}
    assert row["images_per_second"]["ours"] == pytest.approx(2 / row["seconds_per_step"]["ours"])
    row["share_of_conv_rate"] = 0.0
    bench.show({"device": "cuda", "gpu": "a GPU", "width": 1, "limits": {}, "rows": {"SNGAN": row}})
    assert "ours_compiled: RuntimeError: no compiler" in capsys.readouterr().out
