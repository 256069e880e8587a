"""A sweep that is run again, as it was or with other settings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bank_sweep import write_bank_sweep
from local_sweep import Home
from tiny_sweep import files_of, tiny

from ensgan import data
from ensgan.config import parse_spec
from ensgan.errors import ConfigError, InputError, IntegrityError
from ensgan.files import write_json
from ensgan.launch import sweep as launch
from ensgan.sweep.events import SweepResult
from ensgan.sweep.live.requests import Request, RequestFolder
from ensgan.types import Samples

NAME = "resumed"


@pytest.fixture(scope="module")
def result(home: Home) -> SweepResult:
    """A finished sweep that the tests here may run again."""
    return home.run(parse_spec(tiny(name=NAME)))


def test_running_again_repeats_nothing(home: Home, result: SweepResult) -> None:
    parts = ("train", "samples", "features", "scores", "search", "evaluate", "ensemble")
    before, runs = files_of(result.folder, *parts), len(home.store.find(kind="sweep"))
    again = home.run(parse_spec(tiny(name=NAME)))
    assert files_of(result.folder, *parts) == before
    assert again.run_id == result.run_id and again.selected == result.selected
    assert len(home.store.find(kind="sweep")) == runs


def test_a_later_stage_reuses_the_members(home: Home, result: SweepResult) -> None:
    before = files_of(result.folder, "train", "samples", "features", "scores")
    runs = len(home.store.find(kind="sweep"))
    other = home.run(parse_spec(tiny(name=NAME, search={"max_size": 2})))
    assert files_of(result.folder, "train", "samples", "features", "scores") == before
    assert other.run_id != result.run_id
    assert all(len(point.members) == 2 for point in other.front)
    first = home.run(parse_spec(tiny(name=NAME)))
    assert first.run_id == result.run_id, "the first settings have their run already"
    assert len(home.store.find(kind="sweep")) == runs + 1


def test_weights_that_were_cut_off_are_refused(home: Home, result: SweepResult) -> None:
    member = min(result.members, key=lambda member: member.name)
    whole = member.weights.read_bytes()
    member.weights.write_bytes(whole[:-1])
    with pytest.raises(IntegrityError, match=rf"{member.weights.name} has changed since"):
        home.run(parse_spec(tiny(name=NAME)))
    member.weights.write_bytes(whole)
    assert home.run(parse_spec(tiny(name=NAME))).selected == result.selected


def test_other_training_is_refused_with_the_differences(home: Home, result: SweepResult) -> None:
    with pytest.raises(ConfigError) as caught:
        home.run(parse_spec(tiny(name=NAME, train={"learning_rate": 2.0})))
    text = str(caught.value)
    assert "train.SNGAN.learning_rate: 1.0 → 2.0" in text and "train.ACGAN-Mod.learning" in text
    with pytest.raises(ConfigError, match=r"(?s)seed: 7 → 1.*--fresh"):
        home.run(parse_spec(tiny(name=NAME, seed=1)))


def test_changing_test_labels_cannot_change_the_choice(
    home: Home, result: SweepResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = data.load_dataset

    def relabelled(*arguments, **options):
        dataset = load(*arguments, **options)
        flipped = Samples(dataset.test.images, 1 - dataset.test.labels)
        return type(dataset)(
            dataset.name,
            dataset.train,
            dataset.val,
            flipped,
            dataset.class_names,
            dataset.licence,
            dataset.source,
        )

    monkeypatch.setattr(data, "load_dataset", relabelled)
    other = home.run(parse_spec(tiny(name="flipped")))
    assert other.selected.point == result.selected.point
    assert other.front.points == result.front.points
    assert other.table.to_json() != result.table.to_json()
    # The rule that looks at classifiers looks at their validation scores.
    rule = {"rule": "downstream", "points": 2, "repeats": 1}
    proof = {"strategies": ["selected"], "repeats": 1}
    with_flipped = home.run(parse_spec(tiny(name="flipped", select=rule, evaluate=proof)))
    monkeypatch.undo()
    honest = home.run(parse_spec(tiny(name=NAME, select=rule, evaluate=proof)))
    assert honest.selected.rule == "downstream"
    assert with_flipped.selected == honest.selected
    assert with_flipped.table.to_json() != honest.table.to_json()


def test_fresh_starts_over_and_keeps_the_old(home: Home) -> None:
    spec = parse_spec(tiny(name="again", train={"steps": 2}))
    first = home.run(spec)
    second = home.run(spec, fresh=True)
    assert second.run_id != first.run_id
    assert [m.sha256 for m in second.members] == [m.sha256 for m in first.members]
    assert len(list((home.path / "sweeps").glob("again.before-*"))) == 1


def test_train_one_is_found_by_the_sweep(home: Home) -> None:
    spec = parse_spec(tiny(name="single", train={"steps": 2}))
    (first, *_) = launch.train_one(spec, "SNGAN", storage=home.path)
    before = first.weights.stat().st_mtime_ns
    result = home.run(spec)
    assert result.members[0].sha256 == first.sha256
    assert first.weights.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="did you mean 'SNGAN'"):
        launch.train_one(spec, "SNGA", storage=home.path)


def test_a_finished_sweep_that_goes_on_takes_requests_and_none_of_before(tmp_path: Path) -> None:
    home, file = Home(tmp_path / "runs"), write_bank_sweep(tmp_path)
    home.run(file)
    folder = home.path / "sweeps/banks"
    requests, old = RequestFolder(folder), Request(number=1, verb="stop", by="me", time=0.0)
    write_json(requests.path / "1.json", old.tree())
    home.run(file, retrain=True)
    assert (requests.path / "1.json").exists(), "where nothing is done nothing is written"
    shutil.rmtree(folder / "evaluate")
    is_open: list[bool] = []
    home.run(file, retrain=True, on_event=lambda event: is_open.append(requests.is_open))
    assert True in is_open and not requests.is_open
    assert not (requests.path / "1.json").exists()
