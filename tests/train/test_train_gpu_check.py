"""scripts/gpu_check on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
import torch

PARTS = ("correctness", "speed", "packs", "pool", "radii", "study", "faiss", "tuning", "compile")
"""All but the embedding: at 224 pixels it takes a CPU ten seconds."""
SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_check"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = spec_from_loader("gpu_check", SourceFileLoader("gpu_check", str(SCRIPT)))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TIMED", ("SNGAN", "StyleGAN2"))
    monkeypatch.setattr(module.zoo, "names", lambda: ("SNGAN", "StyleGAN2"))
    return module


def test_all_parts_run_and_one_that_fails_stops_none(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failing(terms: object) -> list[dict[str, object]]:
        raise RuntimeError("no such kernel\nmore")

    monkeypatch.setitem(script.PARTS, "broken", (failing, 0.1))
    arguments = [
        "gpu_check",
        "--emulate",
        "--seconds",
        "5000",
        "--json",
        str(tmp_path / "out.json"),
    ]
    monkeypatch.setattr(sys, "argv", [*arguments, "--parts", ",".join(["broken", *PARTS])])
    assert script.main() == 1
    parts = json.loads((tmp_path / "out.json").read_text())["parts"]
    assert parts["broken"]["error"] == "RuntimeError: no such kernel"
    assert [row["result"] for row in parts["correctness"]["rows"]] == ["ok", "ok"]
    assert len(parts["speed"]["rows"]) == 2 * len(script.WAYS)
    assert all(row["steps/s"] > 0 for row in parts["speed"]["rows"] + parts["packs"]["rows"])
    assert [row["members"] for row in parts["pool"]["rows"]] == [2, 3]
    study = parts["study"]["rows"]
    assert all(row["images/s"] > 0 for row in study)
    assert [row["precision"] for row in study] == ["float32", "float32", "bfloat16", "bfloat16"]
    assert [row["backend"] for row in parts["faiss"]["rows"]] == ["torch", "faiss"]
    assert all(row["steps/s"] > 0 for row in parts["tuning"]["rows"] + parts["compile"]["rows"])
    assert {row["result"] for row in parts["tuning"]["rows"]} == {"ok"}
    assert {"embedding", *PARTS} < set(script.PARTS)
    shown = capsys.readouterr().out
    assert "FAILED RuntimeError: no such kernel" in shown
    assert shown.index("FAILED") < shown.index("correctness ("), "the rest went on"


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_one_sentence_and_exit_code_2() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gpu_check needs an NVIDIA GPU, and torch sees none: use --emulate\n"
