from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_sweep import tiny

from ensgan.config import parse_spec
from ensgan.errors import InputError
from ensgan.files import read_json, write_json
from ensgan.sweep.events import Event, StageClock, union_seconds
from ensgan.sweep.folder import SweepFolder, sweep_folder
from ensgan.sweep.member_job import purpose_seed, sample_labels
from ensgan.sweep.opening import _once, differences
from ensgan.sweep.resolving import resolve


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=8))
def test_union_of_intervals_counts_every_second_once(pairs: list[tuple[int, int]]) -> None:
    intervals = [(float(min(p)), float(max(p))) for p in pairs]
    covered = {s for a, b in intervals for s in range(int(a), int(b))}
    assert union_seconds(intervals) == len(covered)


def test_clock_tells_work_from_orchestration() -> None:
    events: list[Event] = []
    clock = StageClock(events.append)
    with clock.stage("score", is_work=True):
        pass
    with clock.stage("train"):
        pass
    clock.started -= 10  # as if ten seconds of start-up had gone by
    summary = clock.summary()
    assert list(summary) == ["score", "train", "orchestration", "total"]
    assert summary["orchestration"] == pytest.approx(10, abs=0.5)
    assert [e.fields["state"] for e in events] == ["start", "done"] * 2


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.integers(2, 200),
    st.integers(0, 5),
    st.sampled_from(["training", "uniform"]),
)
def test_sample_labels_keep_the_proportions(
    counts: list[int], n: int, seed: int, mode: str
) -> None:
    training = np.repeat(np.arange(len(counts)), counts)
    labels = sample_labels(training, len(counts), n, mode, seed)
    assert len(labels) == n
    shares = np.array(counts) / sum(counts) if mode == "training" else 1 / len(counts)
    assert np.all(np.abs(np.bincount(labels, minlength=len(counts)) - shares * n) < 1)
    again = sample_labels(training, len(counts), n, mode, seed)
    np.testing.assert_array_equal(labels, again)


def test_equal_counts_reproduce_the_training_split() -> None:
    training = np.array([0] * 3 + [1] * 8)
    labels = sample_labels(training, 2, 11, "training", 0)
    assert np.bincount(labels).tolist() == [3, 8]


def test_seeds_differ_by_purpose() -> None:
    seeds = {purpose_seed(s, "train", gan) for s in range(5) for gan in ("A", "B")}
    assert len(seeds) == 10 and all(0 <= seed < 2**31 for seed in seeds)
    assert purpose_seed(0, "train", "A") == purpose_seed(0, "train", "A")


def test_differences_name_the_leaf() -> None:
    before = {"train": {"steps": 5, "gans": ["A"]}, "seed": 1}
    after = {"train": {"steps": 6, "gans": ["A"]}, "seed": 1}
    assert differences(before, after) == ["train.steps: 5 → 6"]


def test_a_sweep_sets_precision_and_compilation() -> None:
    resolved = resolve(parse_spec(tiny(train={"precision": "bfloat16", "compile": True})))
    precisions = {
        (each.settings.precision, each.settings.compile) for each in resolved.configurations
    }
    assert precisions == {("bfloat16", True)}


def test_a_sweep_folder_is_held_by_one_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ensgan.sweep.folder import SweepFolder\n"
        f"with SweepFolder(Path({str(tmp_path)!r})).locked(): pass"
    )
    with SweepFolder(tmp_path).locked():
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another process runs a sweep" in other.stderr
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_set_aside_loses_nothing(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "s")
    assert folder.set_aside() is None
    write_json(folder.manifest_path, {"schema": 1, "x": 2})
    moved = folder.set_aside()
    assert moved is not None and read_json(moved / "manifest.json")["x"] == 2
    assert not folder.has_begun


def test_a_storage_whose_path_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not UTF-8: name another folder"):
        sweep_folder(tmp_path / os.fsdecode(b"a\xe9"), "x")
    assert sweep_folder(tmp_path / "é", "x").path == tmp_path / "é" / "sweeps" / "x"


def test_a_storage_that_is_a_file_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("years of work")
    folder = sweep_folder(tmp_path / "thesis", "x")
    with pytest.raises(InputError, match="Not a directory; choose another"), folder.locked():
        pass


def test_what_is_true_of_all_variations_is_said_once() -> None:
    lines = [(gan, f"train.{gan}.batch: 8 → 4") for gan in ("SNGAN~s1", "SNGAN~s2", "SAGAN")]
    assert _once([*lines, ("SNGAN~s3", "train.SNGAN~s3.batch: 9 → 4")]) == [
        "train.SNGAN~s1.batch: 8 → 4 (and so for 1 more of SNGAN)",
        "train.SAGAN.batch: 8 → 4",
        "train.SNGAN~s3.batch: 9 → 4",
    ]
