"""A storage that was copied and renamed: all goes on there, and the old place is never read."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bank_sweep import write_bank_sweep
from local_sweep import Home
from test_sweep_growth import grown_banks
from tiny_sweep import files_of

from ensgan.downstream import ClassifierSettings
from ensgan.errors import StoreError
from ensgan.launch import evaluate as launch_evaluate
from ensgan.launch import sweep as launch
from ensgan.launch.evaluate import EvaluationOptions, Place, View, evaluate_sweeps
from ensgan.report.content import by_gan, collect
from ensgan.report.page import render
from ensgan.sweep.events import Event
from ensgan.sweep.folder import find_sweep
from ensgan.sweep.live.status import sweep_status

OLD = Path(__file__).with_name("schema_1_sweep.tar.gz")
"""A sweep of three external members, written by version 0.1 (schema 1) in another folder."""
PARTS = ("members", "banks", "samples", "features", "scores", "search", "evaluate", "ensemble")
QUICK = EvaluationOptions(
    strategies=("real", "selected"), repeats=1, classifier=ClassifierSettings(epochs=1, width=4)
)

_watched: list[tuple[Path, list[str]]] = []


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir") and _watched:
        place, seen = _watched[-1]
        if str(arguments[0]).startswith(str(place)):
            seen.append(str(arguments[0]))


sys.addaudithook(_audit)


@contextmanager
def refuse(*_: object, **__: object) -> Iterator[None]:
    raise AssertionError("an executor was opened although nothing is left to do")
    yield


def merged_sweep(home: Home, place: Path) -> Path:
    """The file of a sweep of the same name that merges two, of which one has grown."""
    home.run(grown_banks(place, "AB", name="ours"))
    home.run(grown_banks(place, "ABC", name="ours"))
    home.run(grown_banks(place, "DE", name="theirs"))
    return write_bank_sweep(place, members=[{"sweep": "ours"}, {"sweep": "theirs"}])


@pytest.fixture(params=["emptied", "merged, emptied", "merged, holding other data"])
def moved(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Home, Path]]:
    """A finished sweep in a second place, with its file."""
    first = Home(tmp_path / "first place" / "runs")
    if "merged" in request.param:
        file = merged_sweep(first, tmp_path / "first place")
    else:
        file = write_bank_sweep(tmp_path / "first place")
    run_id = first.run(file).run_id
    shutil.copytree(tmp_path / "first place", tmp_path / "second place")
    home = Home(tmp_path / "second place" / "renamed")
    shutil.move(tmp_path / "second place" / "runs", home.path)
    home.store = first.store
    monkeypatch.setattr(launch_evaluate, "open_store", home.open_store)
    if request.param.endswith("emptied"):
        shutil.rmtree(tmp_path / "first place")
    else:
        for path in (tmp_path / "first place").rglob("*"):
            if path.is_file():
                path.write_bytes(b"of another sweep")
    seen: list[str] = []
    _watched.append((tmp_path / "first place", seen))
    assert find_sweep("banks", home.path).run_id() == run_id
    yield home, tmp_path / "second place" / file.name
    _watched.pop()
    assert seen == []


def test_resuming_does_nothing(moved: tuple[Home, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    home, file = moved
    monkeypatch.setattr(launch, "executor_at", refuse)
    folder = find_sweep("banks", home.path)
    before, manifest = files_of(folder.path, *PARTS), folder.manifest_path.read_bytes()
    result = home.run(file)
    assert result.run_id == folder.run_id()
    assert files_of(folder.path, *PARTS) == before
    assert folder.manifest_path.read_bytes() == manifest
    assert len([run for run in home.store.find(kind="sweep") if run.name == "banks"]) == 1


def test_status_evaluation_study_and_report(moved: tuple[Home, Path]) -> None:
    home, _ = moved
    assert sweep_status(find_sweep("banks", home.path))["state"] == "finished"
    run_id = find_sweep("banks", home.path).run_id() or ""
    (evaluation,) = evaluate_sweeps(["banks"], [View()], QUICK, Place(home.path, address=None))
    assert [row.strategy for row in evaluation.table] == ["real", "selected"]
    views = [View(), View("random", count=12)]
    assert len(evaluate_sweeps([run_id], views, QUICK, place=Place(home.path, address=None))) == 2
    page = render(collect(home.store, run_id, real_from=home.path))
    assert "Real training images" in page


def test_what_is_left_is_done_in_the_new_place(moved: tuple[Home, Path]) -> None:
    home, file = moved
    folder = find_sweep("banks", home.path)
    for part in ("scores", "search", "ensemble", "evaluate"):
        shutil.rmtree(folder.path / part)
    manifest = folder.read()
    manifest.model_copy(update={"status": "running"}).save(folder.manifest_path)
    result = home.run(file)
    assert result.run_id == folder.run_id()
    assert {path.parents[1] for path in (folder.read().front, folder.read().scores) if path} == {
        folder.path
    }


def test_a_sweep_of_schema_1_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    home = Home(tmp_path / "ensgan-runs")
    folder = find_sweep("old", home.path)
    assert json.loads(folder.manifest_path.read_text())["schema"] == 1
    status = sweep_status(folder)
    assert status["state"] == "finished" and status["members"] == 3
    assert list(by_gan(folder.read())) == ["A", "B", "C"]
    monkeypatch.setattr(launch_evaluate, "open_store", home.open_store)
    (evaluation,) = evaluate_sweeps(["old"], [View()], QUICK, Place(home.path, address=None))
    assert len(list(evaluation.table)) == 2
    parts = ("banks", "samples", "features", "scores", "search", "ensemble")
    # Radii are a cache of the scorer's, which writes them anew after an update.
    before = {k: v for k, v in files_of(folder.path, *parts).items() if "-radii-" not in k}
    result = home.run(tmp_path / "old.yaml")
    after = files_of(folder.path, *parts)
    assert {name: after.get(name) for name in before} == before
    assert result.run_id is not None
    assert "A" in render(collect(home.store, result.run_id))
    # Another later stage: a new run on the same members, in today's schema.
    home.run(tmp_path / "old.yaml", settings=["select.rule=max-intra"])
    assert json.loads(folder.manifest_path.read_text())["schema"] == 2
    assert str(tmp_path) not in json.dumps(json.loads(folder.manifest_path.read_text())["members"])


def test_a_folder_that_is_moved_while_its_sweep_runs_ends_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "runs")
    file, folder = write_bank_sweep(tmp_path), home.path / "sweeps" / "banks"

    def move(event: Event) -> None:
        if event.kind == "member" and event.fields["done"] == 2:
            folder.rename(home.path / "sweeps" / "elsewhere")

    with pytest.raises(StoreError, match=r"sweeps/banks was moved or replaced while its sweep ran"):
        home.run(file, on_event=move)
    assert not (folder / "manifest.json").exists()
    moved = find_sweep("elsewhere", home.path)
    assert sweep_status(moved)["state"] == "interrupted"
    shutil.rmtree(folder, ignore_errors=True)
    moved.path.rename(folder)
    assert len(home.run(file).members) == 3
