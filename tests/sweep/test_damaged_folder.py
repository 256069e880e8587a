"""Files of a sweep's folder that are damaged or exchanged: made again or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from bank_sweep import write_bank_sweep
from local_sweep import Home

from ensgan.embedding import make_extractor
from ensgan.errors import DataError, InputError, IntegrityError
from ensgan.evaluation.finished_sweep import open_sweep
from ensgan.files import is_whole, read_json, write_json
from ensgan.store.record import TAG_SELECTED
from ensgan.sweep.events import SweepResult
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.member_job import BLANK


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SweepResult]:
    """A finished sweep in a place of its own, and its result."""
    place = tmp_path_factory.mktemp("place")
    return place, Home(place / "runs").run(write_bank_sweep(place))


@pytest.fixture
def copy(first: tuple[Path, SweepResult], tmp_path: Path) -> tuple[Home, Path, SweepFolder]:
    """A copy of it; its file; its folder."""
    shutil.copytree(first[0], tmp_path / "copy")
    home = Home(tmp_path / "copy" / "runs")
    return home, tmp_path / "copy" / "banks.yaml", SweepFolder(home.path / "sweeps" / "banks")


def forget(folder: SweepFolder) -> None:
    """Let the manifest know of no member, so that their own records are looked at."""
    folder.read().model_copy(update={"members": {}, "status": "running"}).save(folder.manifest_path)


def same(result: SweepResult, first: SweepResult) -> bool:
    return (
        [(m.name, m.intra_d, m.density) for m in result.members]
        == [(m.name, m.intra_d, m.density) for m in first.members]
        and result.front.points == first.front.points
        and [(row.strategy, row.metrics) for row in result.table]
        == [(row.strategy, row.metrics) for row in first.table]
    )


def test_members_records_that_were_exchanged_or_cut_off_are_made_again(
    first: tuple[Path, SweepResult], copy: tuple[Home, Path, SweepFolder]
) -> None:
    home, file, folder = copy
    forget(folder)
    a, b, c = sorted((folder.path / "members").iterdir())
    one, two = a.read_bytes(), b.read_bytes()
    a.write_bytes(two)
    b.write_bytes(one)
    c.write_bytes(c.read_bytes()[:-40])
    assert same(home.run(file), first[1])
    assert read_json(a)["name"] == "A" and read_json(c)["name"] == "C"


def test_an_ensemble_one_of_whose_members_is_away_is_none(
    copy: tuple[Home, Path, SweepFolder],
) -> None:
    """While it is made again the folder can be read and recorded."""
    home, _, folder = copy
    (folder.path / "recorded.json").unlink()  # the store of this copy is empty
    whole = folder.read()
    name = whole.chosen[0]
    others = {other: member for other, member in whole.members.items() if other != name}
    now = whole.model_copy(update={"members": others, "status": "running"})
    now.save(folder.manifest_path)
    assert folder.read().chosen == () and folder.read().selected is not None
    assert TAG_SELECTED not in home.store.get(home.sync("banks")).tags
    whole.save(folder.manifest_path)
    assert name in home.store.get(home.sync("banks")).tags[TAG_SELECTED]


@pytest.mark.parametrize("part", ["scores", "search", "evaluate", "privacy"])
@pytest.mark.parametrize("damage", ["cut off", "foreign", "exchanged"])
def test_derived_files_are_made_again(
    first: tuple[Path, SweepResult], copy: tuple[Home, Path, SweepFolder], part: str, damage: str
) -> None:
    home, file, folder = copy
    pattern = {"scores": "scores-*.npz"}.get(part, "*.json")
    paths = sorted((folder.path / part).glob(pattern))
    contents = [path.read_bytes() for path in paths]
    for path, other in zip(paths, contents[1:] + contents[:1], strict=True):
        if damage == "cut off":
            path.write_bytes(path.read_bytes()[:-20])
        elif damage == "foreign":
            path.write_bytes(b"[1]\n")
        else:
            path.write_bytes(other)
    assert same(home.run(file), first[1])


def other_figures(path: Path) -> None:
    """Put a readable file of the same kind in a file's place."""
    if path.suffix == ".npz":
        arrays = dict(np.load(path))
        changed = next(name for name in ("density", "squared", "images") if name in arrays)
        arrays[changed] = arrays[changed][::-1].copy()
        if "centre" in arrays:  # radii of other images, which lie elsewhere
            arrays["centre"] = arrays["centre"] + 1
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        make_extractor("random", seed=99, dataset=None).save(path)
    else:
        text = path.read_text()
        path.write_text(text.replace("0.", "0.1", 1) if "0." in text else text.replace("A", "C"))


@pytest.mark.parametrize(
    "pattern",
    [
        "data/*-train.npz",
        "extractor/*.safetensors",
        "features/real-train-*-radii-*.npz",
        "scores/scores-*.npz",
        "search/front-*.json",
        "search/trials-*.csv",
        "select/validated-*.json",
    ],
)
def test_what_another_sweep_made_is_not_taken_for_ones_own(
    first: tuple[Path, SweepResult], copy: tuple[Home, Path, SweepFolder], pattern: str
) -> None:
    home, file, folder = copy
    (path,) = [p for p in folder.path.glob(pattern) if ("radii" in p.name) == ("radii" in pattern)]
    before = path.read_bytes()
    other_figures(path)
    assert path.read_bytes() != before
    assert same(home.run(file), first[1])
    assert is_whole(path) and (path.suffix != ".safetensors" or path.read_bytes() == before)
    assert home.run(file).selected == first[1].selected


def test_a_front_that_was_exchanged_is_not_evaluated(
    copy: tuple[Home, Path, SweepFolder],
) -> None:
    home, _, folder = copy
    (path,) = (folder.path / "search").glob("front-*.json")
    other_figures(path)
    with pytest.raises(IntegrityError, match=r"front-.*has changed since it was made: run"):
        open_sweep("banks", home.path)


@pytest.mark.parametrize(
    "pattern", ["ensemble/*/members/*", "ensemble/*/ensemble.json", "banks/*.safetensors"]
)
def test_a_damaged_ensemble_or_bank_is_written_again(
    first: tuple[Path, SweepResult], copy: tuple[Home, Path, SweepFolder], pattern: str
) -> None:
    home, file, folder = copy
    (damaged, *_) = sorted(folder.path.glob(pattern))
    before = damaged.read_bytes()
    damaged.write_bytes(before[:-2])
    assert same(home.run(file), first[1])
    assert damaged.read_bytes() == before


def test_a_damaged_ensemble_with_others_files_in_it_is_refused(
    copy: tuple[Home, Path, SweepFolder],
) -> None:
    home, file, folder = copy
    (ensemble,) = (folder.path / "ensemble").iterdir()
    (ensemble / "ensemble.json").unlink()
    (ensemble / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        home.run(file)
    assert (ensemble / "notes.txt").read_text() == "mine"


def test_features_that_were_exchanged_are_refused(copy: tuple[Home, Path, SweepFolder]) -> None:
    home, file, folder = copy
    shutil.rmtree(folder.path / "scores")
    members = folder.read().members
    shutil.copyfile(members["A"].features, members["B"].features)
    with pytest.raises(IntegrityError, match=r"has changed since B was made: delete it and run"):
        home.run(file)
    members["B"].features.unlink()
    assert len(home.run(file).members) == 3


@pytest.mark.parametrize("damage", ["cut off", "a member's"])
def test_real_features_that_were_damaged_are_made_again(
    first: tuple[Path, SweepResult], copy: tuple[Home, Path, SweepFolder], damage: str
) -> None:
    home, file, folder = copy
    before = {}
    for path in (folder.path / "features").glob("real-*.npy"):
        before[path] = path.read_bytes()
        other = folder.read().members["A"].features.read_bytes()
        path.write_bytes(other if damage == "a member's" else before[path][:-100])
    assert len(before) == 2
    for part in ("scores", "search", "privacy"):
        shutil.rmtree(folder.path / part)
    assert same(home.run(file), first[1])
    assert {path: path.read_bytes() for path in before} == before


def test_real_features_of_an_early_version_hold_no_mark_and_are_kept(
    first: tuple[Path, SweepResult], copy: tuple[Home, Path, SweepFolder]
) -> None:
    home, file, folder = copy
    for mark in (folder.path / "features").glob("*.sha256"):
        mark.unlink()
    shutil.rmtree(folder.path / "scores")
    assert same(home.run(file), first[1])
    assert not list((folder.path / "features").glob("*.sha256"))


def test_images_that_were_exchanged_train_no_classifier(
    copy: tuple[Home, Path, SweepFolder],
) -> None:
    home, file, folder = copy
    shutil.rmtree(folder.path / "evaluate")
    members = folder.read().members
    shutil.copyfile(members["A"].samples, members["B"].samples)
    with pytest.raises(IntegrityError, match=r"has changed since B was made: delete it and run"):
        home.run(file)
    members["B"].samples.unlink()
    assert len(home.run(file).members) == 3


def test_another_data_set_under_the_same_name_is_refused(
    copy: tuple[Home, Path, SweepFolder],
) -> None:
    home, file, folder = copy
    manifest = folder.read()
    other = manifest.dataset.model_copy(update={"key": "ab" * 32})
    manifest.model_copy(update={"dataset": other}).save(folder.manifest_path)
    with pytest.raises(InputError, match="dataset: content abababababab → "):
        home.run(file)


def test_a_damaged_record_of_runs_is_said(copy: tuple[Home, Path, SweepFolder]) -> None:
    home, file, folder = copy
    write_json(folder.record_path, {"runs": {"banks": 7}})
    with pytest.raises(DataError, match=r"recorded\.json cannot be used: runs\.banks"):
        folder.recorded()
    assert home.run(file).run_id is None
    (warning,) = [event for event in home.events if event.kind == "warning"]
    assert "nothing is recorded until it is restored or deleted" in warning.fields["message"]


def test_what_sessions_cost_adds_up(copy: tuple[Home, Path, SweepFolder]) -> None:
    home, file, folder = copy
    before = folder.read()
    paid = {**before.stages, "train": 84.6, "total": before.stages["total"] + 84.6}
    interrupted = before.model_copy(update={"status": "running", "stages": paid})
    interrupted.save(folder.manifest_path)
    home.run(file)
    stages = folder.read().stages
    assert 84.6 <= stages["train"] < 90 and stages["total"] > paid["total"]
    assert list(stages)[-2:] == ["orchestration", "total"]
    home.run(file)
    assert folder.read().stages == stages


def test_a_generator_of_blank_images_does_not_enter_the_pool(tmp_path: Path) -> None:
    file = write_bank_sweep(tmp_path, name="blank")
    labels = np.arange(24, dtype=np.int64) % 2
    np.savez(tmp_path / "B.npz", images=np.zeros((24, 16, 16), np.uint8), labels=labels)
    with pytest.raises(InputError) as caught:
        Home(tmp_path / "runs").run(file)
    assert f"member 'B' cannot join the pool: {BLANK.format(0)}" in str(caught.value)
