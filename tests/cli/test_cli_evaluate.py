"""``ensgan evaluate``: the table, resuming, recording once, and what bad input is told."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from evaluation_shell import Shell
from made_sweep import blobs, make_sweep
from tiny_sweep import tiny

from ensgan import __version__
from ensgan.evaluation.finished_sweep import open_sweep
from ensgan.search import Evaluator
from ensgan.sweep import classifier_job as jobs
from ensgan.types import Samples


@pytest.fixture
def shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Shell:
    return Shell("evaluate", monkeypatch, capsys, tmp_path / "storage")


def test_the_table_is_resumed_extended_and_recorded_once(shell: Shell) -> None:
    chosen = ("--strategies", "real,best-single,all,last,random:3,selected")
    code, out, told = shell(shell.run_id, *chosen, "--repeats", "1", "--json")
    assert code == 0, told
    value = json.loads(out)
    assert [row["strategy"] for row in value["strategies"]] == [
        "real", "best-single", "all", "last", "random:3", "selected",
    ]  # fmt: skip
    assert value["reference"] == "selected" and value["members"] == 6
    assert len(value["runs"]) == 8 and value["settings"]["classifier"]["width"] == 4
    # Two steps on noise are too little, and the table says so.
    assert "undecided: " in value["undecided"] and value["possible_auc"] > 0.4
    # Strategies whose members are the same share their classifiers; one more is the judge of
    # whether real images were trained on long enough.
    different = {
        (tuple(run["strategy"]["members"]), run["strategy"]["kind"]) for run in value["runs"]
    }
    assert shell.trained == len(different) + 1
    assert f"{len(different)}/{shell.trained} one more: real, 10 times the steps" in told
    children = shell.store.children(shell.run_id)
    assert sorted(child.name for child in children) == sorted(
        row["strategy"] for row in value["strategies"]
    )
    assert {child.kind for child in children} == {"strategy"}
    for child in children:
        assert child.params["dataset.key"] and child.params["seed"] == "7"
        assert child.params["ensgan"] == __version__ and child.params["commit"]
        assert child.tags["ensgan.dataset"] == child.params["dataset"]
    assert any("evaluation-" in name for name in shell.store.files(shell.run_id))

    before = shell.trained
    again = shell.json("made", *chosen, "--repeats", "1")
    assert shell.trained == before and again["strategies"] == value["strategies"]
    assert len(shell.store.children(shell.run_id)) == len(children)

    more = shell.json("made", "--strategies", "real,selected", "--repeats", "2")
    assert shell.trained == before + 2, "the first repeats are there already"
    assert more["strategies"][0]["metrics"]["auc"]["sd"] is not None
    assert len(shell.store.children(shell.run_id)) == len(children) + 2


def test_options_reach_the_strategies(shell: Shell) -> None:
    words = ("--strategies", "selected,all", "--repeats", "1")
    value = shell.json(
        "made", *words, "--rule", "max-intra", "--weights", "by-intra", "--n-times", "2",
        "--labels", "uniform", "--seed", "5", "--sampling", "bank",
    )  # fmt: skip
    assert value["sampling"] == "images from the members' banks, as asked for"
    sweep = open_sweep("made", shell.storage)
    assert value["selected"]["intra_d"] == max(point.intra_d for point in sweep.front)
    run = value["runs"][1]
    assert run["strategy"]["n_times"] == 2 and run["images"] == 64
    assert run["strategy"]["weights"] == pytest.approx(sweep.scores.intra_d.tolist())
    assert run["class_weights"] == [1.0, 1.0]
    learned = shell.json("made", *words, "--weights", "learned")["runs"][1]["strategy"]
    evaluator = Evaluator(sweep.scores)
    members = evaluator.indices(learned["members"])
    assert evaluator.evaluate(members, learned["weights"])[0] > evaluator.evaluate(members)[0]


def test_the_rule_downstream_looks_at_validation_only(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--strategies", "selected", "--repeats", "1", "--rule", "downstream")
    counts = ("--rule-points", "4", "--rule-repeats", "1", "--epochs", "2")
    value = shell.json("made", *words, *counts)
    assert value["selected"]["rule"] == "downstream"
    sweep = open_sweep("made", shell.storage)
    scored = shell.json("made", "--strategies", "front:4", "--repeats", "1", *counts)
    assert len(scored["strategies"]) == min(4, len(sweep.front))
    load = jobs.DatasetFiles.load

    def flipped(files: jobs.DatasetFiles):
        dataset = load(files)
        test = Samples(dataset.test.images, 1 - dataset.test.labels)
        return type(dataset)(dataset.name, dataset.train, dataset.val, test, dataset.class_names)

    for path in (sweep.folder.path / "evaluate").glob("*-*-*.json"):
        path.unlink()
    monkeypatch.setattr(jobs.DatasetFiles, "load", flipped)
    other = shell.json("made", *words, *counts)
    assert other["selected"] == value["selected"]
    assert other["runs"][0]["metrics"] != value["runs"][0]["metrics"]
    assert other["runs"][0]["val_metrics"] == value["runs"][0]["val_metrics"]


def test_what_is_not_named_is_as_the_sweep_has_it(shell: Shell) -> None:
    value = shell.json("made")
    asked = tiny()["evaluate"]
    assert [row["strategy"] for row in value["strategies"]] == asked["strategies"]
    assert value["settings"]["repeats"] == asked["repeats"]
    _, shown, _ = shell("made", "--strategies", "real", "--repeats", "1")
    assert "G* (" not in shown and "no verdict" not in shown  # nothing to compare


def test_an_absent_store_delays_recording_only(shell: Shell) -> None:
    words = ("--strategies", "real", "--repeats", "1")
    shell.reachable = False
    code, out, error = shell("made", *words)
    assert code == 0 and "real" in out and "not recorded" in error
    shell.reachable = True
    shell.json("made", *words)
    assert shell.trained == 2  # and the one with ten times the steps
    assert [child.name for child in shell.store.children(shell.run_id)] == ["real"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--strategies", "random:7"), "asks for 7 members, but the pool has 6"),
        (("--strategies", "selectd"), "did you mean 'selected'"),
        (("--strategies", "single:SNGAN@3"), "did you mean 'SNGAN@"),
        (("--strategies", "front:x"), "front:K"),
        (("--strategies", ","), "at least one strategy"),
        (("--strategies", "all,all"), "named twice"),
        (("--weights", "intra"), "unknown weighting 'intra'"),
        (("--sampling", "fresch"), "did you mean 'fresh'"),
        (("--labels", "even"), "'training' or 'uniform', not 'even'"),
        (("--rule", "kne"), "did you mean 'knee'"),
        (("--rule", "max-size:1"), "max-size:1"),
        (("--repeats", "0"), "--repeats"),
        (("--width", "2"), "--width"),
    ],
)
def test_bad_options_are_refused(shell: Shell, words: tuple[str, ...], expected: str) -> None:
    assert expected in " ".join(shell.refused("made", *words).split())


def test_sweeps_that_cannot_be_evaluated(shell: Shell, tmp_path: Path) -> None:
    assert "did you mean 'made'" in shell.refused("mad")
    folder = shell.storage / "sweeps" / "made"
    sweep = open_sweep(str(folder), shell.storage)
    with sweep.folder.locked():
        assert "another process" in shell.refused("made")
    manifest = sweep.folder.read()
    manifest.model_copy(update={"front": None}).save(sweep.folder.manifest_path)
    assert "has not come to its front yet" in shell.refused("made")
    manifest.save(sweep.folder.manifest_path)
    sweep.members[2].samples.unlink()
    assert "the images of SAGAN@1 are not where" in shell.refused("made")
    shell.storage = tmp_path / "nothing"
    assert "holds no sweeps" in shell.refused("made")


@pytest.mark.parametrize(
    ("split", "labels", "expected"),
    [
        ("val", 0, "the val split of toy has no image of class yes"),
        ("test", 1, "the test split of toy has no image of class no"),
        ("val", 7, "the val split of toy has the label 7"),
    ],
)
def test_data_that_cannot_be_measured(shell: Shell, split: str, labels: int, expected: str) -> None:
    path = open_sweep("made", shell.storage).dataset.splits[split]
    Samples(blobs(20, 0).images, np.full(20, labels)).save(path)
    assert expected in " ".join(shell.refused("made").split())


def test_real_images_that_were_exchanged_are_refused(shell: Shell) -> None:
    blobs(40, 5).save(open_sweep("made", shell.storage).dataset.splits["test"])
    assert "are not those the sweep began with" in " ".join(shell.refused("made").split())


def test_members_of_another_size_are_refused(shell: Shell) -> None:
    sweep = open_sweep("made", shell.storage)
    blobs(20, 0, size=16).save(sweep.members[0].samples)
    code, _, error = shell("made", "--strategies", "all", "--repeats", "1")
    assert code == 2 and "are 16×16 with 1 channel(s), those of toy are 8×8" in error


def test_the_commands_of_the_page(shell: Shell) -> None:
    page = (Path(__file__).parents[2] / "docs" / "downstream.md").read_text()
    (block,) = re.findall(r"```sh\n(ensgan evaluate.*?)```", page, flags=re.S)
    make_sweep(shell.storage, shell.store, "quickstart")
    lines = block.strip().splitlines()
    assert len(lines) == 4
    for line in lines:
        _, _, sweep, *words = shlex.split(line)
        # The last of a repeated option counts: one small classifier a strategy.
        small = ("--repeats", "1", "--width", "4", "--epochs", "1", "--rule-points", "2")
        code, _, error = shell(sweep.replace("RUN", shell.run_id), *words, *small)
        assert code == 0, error
