"""Benchmarks that measure in a process of their own, at a size that takes a moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[1] / "scripts" / "bench.py"


def bench(*words: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(BENCH), *map(str, words), "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(BENCH.parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_of_a_pool_larger_than_its_budget(tmp_path: Path) -> None:
    size = ("--members", 12, "--points", 200, "--dim", 64, "--different", 4)
    where = ("--budget", 0.001, "--folder", tmp_path)
    found = bench("score", "--parts", "memory", *size, *where)["memory"]
    assert found["products"] == 2 * found["rows_in_memory"] > 2
    assert found["anonymous_peak_mib"] > 0 and found["mapped_peak_mib"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_whole_pool_against_the_rate_of_the_product() -> None:
    size = ("--members", 4, "--points", 200, "--dim", 64, "--backends", "torch")
    found = bench("score", "--parts", "paper", *size)["paper"]
    assert found["flop"] == 15 * 2 * 200**2 * 64  # five radii, four to the real set, six pairs
    ours = found["torch"]
    assert ours["seconds"] > 0 and 0 < ours["of_product_rate"] <= 1.2


def test_a_large_search_in_its_own_process() -> None:
    size = ("--scale-size", 30, 200, "--scale-seconds", 0.2, "--scale-reference", 0.3)
    found = bench("search", "--parts", "scale", *size)
    short, long = found["scale"]["runs"]
    # How near it comes in that time is the machine's affair.
    assert 0 < short["of_reference"] <= 1.0 + 1e-9
    assert long["evaluations"] > 0 and short["peak_mb"] > 1
    assert {"commit", "processor", "load"} <= set(found["machine"])


def test_what_scores_and_rules_are_worth(shared: Path) -> None:
    """The figures of docs/results/usefulness.md."""
    found = bench("usefulness", "--pool", shared / "bench" / "pool60", "--data", shared / "data")
    for space in ("medical-joint", "random-joint"):
        rho = {name: value["rho"] for name, value in found["correlations"][space].items()}
        assert rho["capped Intra-d"] >= 0.6 > 0.45 > rho["Intra-d"]
        assert rho["-Inter-d"] < -0.6
    worth = {pick["rule"]: pick["worth"] for pick in found["picks"]}
    assert worth["random-joint:knee"] < worth["all"] < worth["random-joint:capped Intra-d"]
    for probed in found["probes"]:
        assert probed["worth"] > worth["all"] and probed["members"] <= 30
        assert probed["correlations"]["both + capped Intra-d"]["rho"] > 0.65
        alone = max(probed["mixes"][f"probe {each} alone"] for each in ("AUC", "loss"))
        assert probed["mixes"]["as shipped"] > alone


def test_what_averages_are_worth() -> None:
    """The published average has not begun: it is the generator; the fitted one is not."""
    few = ("--steps", 4, "--looks", 2, "--images", 40, "--width", 1 / 32, "--batch", 4)
    rows = bench("averages", "--dataset", "phantom", *few)["averages"]
    found = {(row["step"], row["average"]): row["Fréchet distance"] for row in rows}
    assert len(found) == 6
    for step in (2, 4):
        assert found[step, "row"] == found[step, "none"] != found[step, "fitted"]
