"""Damaged folders and a long run, each by the command that makes its page in docs/results."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import chaos_damage
import chaos_soak
import pytest

from ensgan.sweep import validated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


def test_no_damaged_file_of_a_sweep_is_used_or_lost(tmp_path: Path) -> None:
    tally = chaos_damage.attack(tmp_path, most=30, trains=False)
    assert tally.bad == []
    assert sum(counts.total() for counts in tally.counts.values()) >= 30


def test_no_damaged_file_of_a_training_is_used_or_lost(tmp_path: Path) -> None:
    tally = chaos_damage.attack(tmp_path, only="train/", most=10)
    assert tally.bad == [] and "train/snapshot.safetensors" in tally.counts


def test_what_is_used_in_silence_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A choice of another sweep reads like this one's: nothing but its mark tells them apart.
    monkeypatch.setattr(validated, "is_whole", Path.is_file)
    tally = chaos_damage.attack(tmp_path, only="select/validated-", trains=False)
    assert [bad.partition(": ")[0].rpartition(" ")[2] for bad in tally.bad] == ["sweep's"]
    assert "DIFFERENT manifest, validation" in tally.bad[0]


def test_a_minute_under_load_leaves_nothing_behind(tmp_path: Path) -> None:
    script = Path(chaos_soak.__file__)
    command = [sys.executable, str(script), "--minutes", "1", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr  # a minute is too short for memory to be flat
    assert "| service: 200 |" in said and "| processes left | 0 |" in said, said
    assert "service: 5" not in said and not re.search(r"exit code 1\b", said), said


def test_growth_and_what_is_left_are_said(tmp_path: Path) -> None:
    soak = chaos_soak.Soak(tmp_path, minutes=1)
    for second in range(60):
        soak.samples["flat"].append((second, 100 << 20, 20))
        soak.samples["grows"].append((second, (100 + second) << 20, 20))
        soak.samples["opens"].append((second, 100 << 20, 20 + second))
        if second > 50:
            soak.samples["short"].append((second, second << 24, 20))
    soak.answers.update({"service: 200": 5, "soak: exit code 0": 1})
    assert [row[0] for row in chaos_soak.rows(soak)] == ["flat", "grows", "opens"]
    assert chaos_soak.problems(soak) == ["grows grew", "opens grew"]
    soak.answers.update({"service: 500": 2, "soak: exit code 1": 1, "processes left": 1})
    found = json.dumps(chaos_soak.problems(soak))
    assert all(word in found for word in ("service: 500", "exit code 1", "processes left"))
    assert "Not flat" in chaos_soak.report(soak, "x")
