"""The manifest: typed, of this schema or an earlier one, and damage named in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_sweep import make_sweep

from ensgan.errors import DataError
from ensgan.files import read_json, write_json
from ensgan.sweep.folder import SweepFolder, find_sweep
from ensgan.sweep.live.status import sweep_status
from ensgan.sweep.manifest import Manifest
from ensgan.sweep.records import MemberResult


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    make_sweep(tmp_path)
    return SweepFolder(tmp_path / "sweeps" / "made")


def test_what_is_written_is_read_and_every_path_is_relative(folder: SweepFolder) -> None:
    manifest = folder.read()
    text = folder.manifest_path.read_text()
    assert str(folder.path) not in text
    assert json.loads(text)["front"] == "search/front-x.json"
    assert manifest.front == folder.path / "search" / "front-x.json"
    assert manifest.members["SNGAN@1"].samples.is_file()
    manifest.save(folder.manifest_path)
    assert folder.manifest_path.read_text() == text


def first(tree: dict[str, Any]) -> dict[str, Any]:
    return next(iter(tree["members"].values()))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda tree: tree.pop("members"), "members is missing"),
        (lambda tree: tree.pop("spec"), "spec is missing"),
        (lambda tree: tree.update(spec={}), "spec.name: is required"),
        (lambda tree: tree["spec"].update(nmae=1), None),  # a setting that is no more
        (lambda tree: tree.update(members=[1]), "members: input should be an object, not [1]"),
        (lambda tree: tree.update(started="yesterday"), "started: input should be a valid number"),
        (lambda tree: tree.update(status="ended"), "status: input should be 'running'"),
        (lambda tree: tree.update(new=1), "new (1) is unknown to this version"),
        (lambda tree: tree.update(schema=3), "no manifest of schema 1 to 2 (its schema is 3)"),
        (lambda tree: tree.update(schema=[1]), "no manifest of schema 1 to 2"),
        (lambda tree: tree.update(front="/etc/passwd"), "front: must be a path inside"),
        (lambda tree: tree.update(front="../other/front.json"), "front: must be a path inside"),
        (lambda tree: first(tree).pop("features"), "members.SNGAN@1.features is missing"),
        (lambda tree: first(tree).update(new=1), "members.SNGAN@1.new (1) is unknown"),
        (lambda tree: first(tree).update(name="SAGAN@1"), "SNGAN@1 holds member SAGAN@1"),
        (lambda tree: tree["dataset"].pop("key"), "dataset.key is missing"),
        (lambda tree: tree["selected"].update(members="abc"), "selected.members: input should be"),
    ],
)
def test_damage_is_named(
    folder: SweepFolder, damage: Callable[[dict[str, Any]], object], expected: str | None
) -> None:
    tree = json.loads(folder.manifest_path.read_text())
    damage(tree)
    write_json(folder.manifest_path, tree)
    if expected is None:
        assert folder.read().planned == 6
        return
    with pytest.raises(DataError) as caught:
        sweep_status(folder)
    assert str(folder.manifest_path) in str(caught.value) and expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"schema": 2, "x": ' + "9" * 5000 + "}", "[" * 100_000, '{"a": "\ud800"}']
)
def test_foreign_content_is_named(folder: SweepFolder, text: str) -> None:
    folder.manifest_path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=r"manifest\.json"):
        folder.read()


def test_a_damaged_heartbeat_is_noted_and_a_newer_one_read(folder: SweepFolder) -> None:
    beat = {"gan": "SNGAN", "step": 1, "steps": 2, "time": 1.0}
    path = folder.path / "train" / "SNGAN-x" / "heartbeat.json"
    write_json(path, {**beat, "new": 1})
    assert sweep_status(folder)["notes"] == []
    for broken, expected in (
        ({**beat, "step": "many"}, "step: input should be a valid integer, not 'many'"),
        ({key: beat[key] for key in ("gan", "step", "steps")}, "time is missing"),
        ([1], "not [1]"),
    ):
        write_json(path, broken)
        (note,) = sweep_status(folder)["notes"]
        assert str(path) in note and expected in note


def test_schema_1_becomes_relative_wherever_the_folder_was(folder: SweepFolder) -> None:
    tree = json.loads(folder.manifest_path.read_text())
    then = "/data/samples/runs/sweeps/then"  # names of stages occur in it
    tree["schema"] = 1
    tree["outside"] = []
    for name in ("front", "trials"):
        tree[name] = f"{then}/{tree[name]}"
    for member in tree["members"].values():
        for name in ("weights", "samples", "features"):
            member[name] = f"{then}/{member[name]}"
    write_json(folder.manifest_path, tree)
    manifest = folder.read()
    assert manifest.front == folder.path / "search" / "front-x.json"
    assert manifest.external == ()
    for member in manifest.members.values():
        assert member.is_there and member.weights.parent == folder.path / "train"


def test_a_members_own_record_of_schema_1_is_read(tmp_path: Path) -> None:
    values = dict.fromkeys(("density", "coverage", "intra_d"), 0.5)
    lists = {"metrics": {}, "health": [], "seconds": {}, "work": [[1.0, 2.0]]}
    paths = {"weights": "/old/a/train/G-1/G@1.safetensors", "samples": "/old/a/samples/G@1.npz"}
    write_json(
        tmp_path / "record.json",
        {"name": "G@1", "sha256": "", "features": "/old/a/features/G@1.npy", **paths, **values}
        | lists,
    )
    member = MemberResult.load(tmp_path / "record.json", Path("/new/place"))
    assert member.weights == Path("/new/place/train/G-1/G@1.safetensors")
    assert member.features == Path("/new/place/features/G@1.npy")
    for elsewhere in ("/elsewhere/G@1.npy", "features/G@1.npy", 3):
        value = read_json(tmp_path / "record.json") | {"features": elsewhere}
        write_json(tmp_path / "other.json", value)
        with pytest.raises(DataError, match=r"other\.json"):
            MemberResult.load(tmp_path / "other.json", Path("/new/place"))


def test_a_sweep_is_found_by_any_of_its_runs_and_its_folder(folder: SweepFolder) -> None:
    storage = folder.path.parents[1]
    earlier = {"key": "k", "uri": "u", "nonce": "n", "runs": {"made": "old"}, "done": []}
    write_json(
        folder.record_path,
        {"runs": {"made": "parent", "SNGAN": "child", "late": ""}, "earlier": [earlier]},
    )
    for source in ("made", str(folder.path), "parent", "child", "old"):
        assert find_sweep(source, storage).path == folder.path
    assert folder.run_id() == "parent"
    with pytest.raises(DataError):
        Manifest.load(folder.record_path)
