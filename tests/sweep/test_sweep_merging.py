"""Two sweeps become one pool: only pairs across are computed, and their folders can go."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from local_sweep import Home
from test_sweep_growth import grown_banks, little, pairs
from typer.testing import CliRunner

from ensgan.cli.app import app
from ensgan.config import parse_spec
from ensgan.ensemble import load_ensemble
from ensgan.errors import ConfigError, DataError, InputError
from ensgan.files import read_json, sha256_file
from ensgan.launch.finished import known_result
from ensgan.sweep.folder import SweepFolder, find_sweep
from ensgan.sweep.live.status import sweep_status
from ensgan.sweep.planning.sweep_file import load_sweep
from ensgan.types import Samples

__all__ = ["pairs"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A storage with the sweeps ``ours`` of A, B, C and ``theirs`` of C, D."""
    home = Home(tmp_path / "runs")
    home.run(grown_banks(tmp_path, "ABC", name="ours"))
    home.run(grown_banks(tmp_path, "CD", name="theirs"))
    return home


def merge(home: Home, *places: str, output: Path) -> str:
    arguments = ["merge", *places, "-o", str(output), "--storage", str(home.path)]
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None:
        raise done.exception
    return done.output


def test_only_pairs_across_are_computed(
    home: Home, tmp_path: Path, pairs: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours").mkdir()  # as a pulled ensemble may be called
    (tmp_path / "ours" / "ensemble.json").write_text("{}")
    said = merge(home, "ours", "theirs", output=tmp_path / "both.yaml")
    assert "5 members" in said and "'ours' and 'theirs' have 1 equal member: a copy" in said
    pairs.clear()
    result = home.run(tmp_path / "both.yaml")
    names = ("ours+A", "ours+B", "ours+C", "theirs+C", "theirs+D")
    assert result.scores.names == names
    assert len(pairs) == 3 * 2
    assert all(len({name.partition("+")[0] for name in pair}) == 2 for pair in pairs)
    # As if all had been scored at once.
    folder = SweepFolder(result.folder)
    shutil.rmtree(folder.path / "scores")
    pairs.clear()
    whole = home.run(tmp_path / "both.yaml")
    assert len(pairs) == 5 + 10
    assert whole.scores.directed.tobytes() == result.scores.directed.tobytes()
    assert whole.scores.masks.tobytes() == result.scores.masks.tobytes()
    # Where members come from is kept.
    origin = folder.read().members["theirs+D"].origin
    assert origin == {
        "sweep": "theirs",
        "member": "D",
        "run": find_sweep("theirs", home.path).run_id(),
    }
    card = read_json(result.ensemble / "ensemble.json")
    for name in result.selected.point.members:
        assert card["provenance"]["outside"][name]["sweep"] in ("ours", "theirs")
    status = sweep_status(folder)
    assert [(row["gan"], row["state"]) for row in status["gans"]] == [(n, "done") for n in names]


def test_a_merged_sweep_needs_the_others_no_more_and_grows(
    home: Home, tmp_path: Path, pairs: list[set[str]]
) -> None:
    merge(home, "ours", "theirs", output=tmp_path / "both.yaml")
    first = home.run(tmp_path / "both.yaml")
    known = known_result(tmp_path / "both.yaml", [], home.path, None)
    assert known is not None and known["run_id"] == first.run_id, "answered at once"
    # A member that joins a sweep later joins the merged one when it runs again.
    home.run(grown_banks(tmp_path, "CDE", name="theirs"))
    assert known_result(tmp_path / "both.yaml", [], home.path, None) is None
    pairs.clear()
    second = home.run(tmp_path / "both.yaml")
    assert second.scores.names[-1] == "theirs+E" and second.run_id != first.run_id
    assert {frozenset(pair) for pair in pairs} == {
        frozenset({"theirs+E", name}) for name in ("ours+A", "ours+B", "ours+C")
    }
    for name in ("ours", "theirs"):
        shutil.rmtree(home.path / "sweeps" / name)
    manifest = SweepFolder(first.folder).manifest_path.read_bytes()
    assert home.run(tmp_path / "both.yaml").run_id == second.run_id
    assert SweepFolder(first.folder).manifest_path.read_bytes() == manifest


def test_sweeps_that_cannot_be_compared_are_refused(home: Home, tmp_path: Path) -> None:
    output = tmp_path / "both.yaml"
    home.run(grown_banks(tmp_path, "AB", name="other-k"), settings=["score.k=4"])
    home.run(grown_banks(tmp_path, "AB", name="other-data"), settings=["seed=4"])
    with pytest.raises(ConfigError, match=r"score.k: 5 in 'ours', 4 in 'other-k'"):
        merge(home, "ours", "other-k", output=output)
    with pytest.raises(ConfigError, match=r"(?s)data: phantom .*content.*extractor: random"):
        merge(home, "ours", "other-data", output=output)
    theirs = find_sweep("theirs", home.path)
    is_now = theirs.read()
    turned = is_now.dataset.model_copy(update={"classes": is_now.dataset.classes[::-1]})
    is_now.model_copy(update={"dataset": turned}).save(theirs.manifest_path)
    with pytest.raises(ConfigError, match="classes: normal, opacity in 'ours', opacity, normal in"):
        merge(home, "ours", "theirs", output=output)
    is_now.save(theirs.manifest_path)
    with pytest.raises(InputError, match="two sweeps or more"):
        merge(home, "ours", output=output)
    with pytest.raises(InputError, match="two sweeps or more"):
        merge(home, "ours", "ours", output=output)
    with pytest.raises(InputError, match="did you mean 'theirs'"):
        merge(home, "ours", "their", output=output)
    assert not output.exists()
    # The same when a sweep file names them, before anything is made.
    tree = yaml.safe_load((tmp_path / "ours.yaml").read_text())
    for sweep, problem in (
        ("other-k", "score.k: 5 in 'mine', 4 in 'other-k'"),
        ("none", "members: .*unknown sweep"),
        ("mine", "unknown sweep"),
    ):
        tree |= {"name": "mine", "members": [{"sweep": sweep}]}
        with pytest.raises(InputError, match=problem):
            home.run(parse_spec(tree))
    for prefix, name, problem in (
        ("theirs", "theirs+X", "members: unknown member of theirs 'X': known are "),
        ("OURS", "OURS+A", "members: the names ours.A and OURS.A differ only in upper and lower"),
    ):
        second = {"sweep": prefix.lower(), "prefix": prefix, "name": name}
        with pytest.raises(ConfigError, match=problem):
            home.run(parse_spec(tree | {"members": [{"sweep": "ours"}, second]}))
    assert not (home.path / "sweeps" / "mine" / "manifest.json").exists()
    manifest = find_sweep("theirs", home.path)
    manifest.read().model_copy(update={"status": "running"}).save(manifest.manifest_path)
    with pytest.raises(InputError, match="'theirs' is not finished: run it to its end first"):
        merge(home, "ours", "theirs", output=output)


def test_members_of_a_sweep_in_a_sweep_file() -> None:
    def problem(**member: object) -> str:
        tree = {"name": "x", "dataset": {"name": "phantom"}, "members": [member]}
        with pytest.raises(ConfigError) as caught:
            parse_spec(tree)
        return str(caught.value)

    assert "members.0.name: is required" in problem(images="a.npz")
    assert "neither @ nor ~" in problem(name="A@1", images="a.npz")
    assert "SWEEP+MEMBER" in problem(name="A@1", sweep="a")
    assert "or a sweep" in problem(name="A+B", sweep="a", images="a.npz")


def test_a_changed_file_of_a_sweep_is_refused(home: Home, tmp_path: Path) -> None:
    merge(home, "ours", "theirs", output=tmp_path / "both.yaml")
    features = find_sweep("theirs", home.path).read().members["D"].features
    features.write_bytes(features.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"D-.*npy has changed since D was made"):
        home.run(tmp_path / "both.yaml")


@pytest.mark.parametrize("labels, side", [(2, 16), (1, 8)])
def test_images_that_are_none_of_the_data_set_are_refused(
    home: Home, tmp_path: Path, labels: int, side: int
) -> None:
    folder = find_sweep("theirs", home.path)
    manifest = folder.read()
    member = manifest.members["D"]
    made = Samples.load(member.samples)
    Samples(made.images[:, :side, :side], np.full_like(made.labels, labels)).save(member.samples)
    contents = {**member.contents, "samples": sha256_file(member.samples)}
    changed = member.model_copy(update={"contents": contents})
    members = {**manifest.members, "D": changed}
    manifest.model_copy(update={"members": members}).save(folder.manifest_path)
    merge(home, "ours", "theirs", output=tmp_path / "both.yaml")
    with pytest.raises(DataError, match=r"D-.*cannot be used: its images are not of phantom's"):
        home.run(tmp_path / "both.yaml")


def test_scores_under_a_foreign_name_are_not_taken(
    home: Home, tmp_path: Path, pairs: list[set[str]]
) -> None:
    theirs = find_sweep("theirs", home.path)
    scores = theirs.read().scores
    assert scores is not None
    other = scores.with_name("scores-0123456789abcdef.npz")
    scores.rename(other)
    theirs.read().model_copy(update={"scores": other}).save(theirs.manifest_path)
    merge(home, "ours", "theirs", output=tmp_path / "both.yaml")
    pairs.clear()
    home.run(tmp_path / "both.yaml")
    assert len(pairs) == 3 * 2 + 1 + 2


@pytest.mark.slow
def test_a_real_sweep_grows_and_merges(tmp_path: Path, pairs: list[set[str]]) -> None:
    """Trained GANs: a GAN, a seed and two snapshots join, then the whole merges with another."""
    home = Home(tmp_path / "runs")
    small = {"gans": ["SNGAN"], "steps": 2, "snapshots": 2}
    home.run(little("ours", **small))
    home.run(little("ours", **{**small, "gans": ["SNGAN", "ACGAN-Mod"]}))
    pairs.clear()
    grown = {**small, "gans": ["SNGAN", "ACGAN-Mod"], "vary": {"seed": [0, 1]}}
    result = home.run(little("ours", **grown))
    assert len(result.members) == 8 and len(pairs) == 4 * 4 + 6 + 4
    more = {**grown, "steps": 4, "snapshots": 4}
    pairs.clear()
    result = home.run(little("ours", **more))
    assert len(result.members) == 16 and len(pairs) == 8 * 8 + 28 + 8
    home.run(little("theirs", **small, learning_rate=2.0))
    merge(home, "ours", "theirs", output=tmp_path / "both.yaml")
    pairs.clear()
    both = home.run(tmp_path / "both.yaml")
    assert len(both.members) == 18 and len(pairs) == 16 * 2
    for name in ("ours", "theirs"):
        shutil.rmtree(home.path / "sweeps" / name)
    # The artifact makes images from the generators' weights, not from banks.
    ensemble = load_ensemble(both.ensemble)
    assert len(ensemble.sample(6, seed=1).images) == 6
    card = read_json(both.ensemble / "ensemble.json")
    assert {member["kind"] for member in card["members"]} == {"gan"}
    assert load_sweep(tmp_path / "both.yaml").train.gans == []
