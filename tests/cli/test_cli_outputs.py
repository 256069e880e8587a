"""No command overwrites what it reads, whichever way the two are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import as_json, call

from ensgan.errors import InputError


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features, a folder of them, the scores of them and a front."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    fake = rng.normal(size=(3, 50, 6)).astype("f4")
    real = rng.normal(size=(60, 6)).astype("f4")
    np.savez(folder / "features.npz", real=real, fake=fake, names=np.array(["a", "b[/x]", "c"]))
    (folder / "features").mkdir()
    for name, values in (("real", real), ("a", fake[0]), ("b", fake[1])):
        np.save(folder / "features" / f"{name}.npy", values)
    as_json("score", folder / "features.npz", "-o", folder / "s.npz")
    assert "b[/x]" in call("search", folder / "s.npz", "--trials", 5, "-o", folder / "f.html")
    (folder / "link.npz").symlink_to("s.npz")
    for suffix in ("txt", "md"):
        (folder / f"thesis.{suffix}").write_text("years of work")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "score features.npz -o features.npz",
        "score features -o features/real.npy",
        "score features.npz --held-out s.npz -o link.npz",
        "search s.npz --trials 5 -o s.npz",
        "search s.npz --trials 5 -o features/../s.npz",
        "search link.npz --trials 5 -o s.npz",
        "search s.npz --trials 5 -o x.json --record s.npz",
        "search s.npz --trials 5 -o x.json --record x.json",
        "search s.npz --trials 5 -o x.html --plot x.html",
        "search s.npz --trials 5 -o a.journal --storage a.journal --sampler tpe",
        "search s.npz --trials 5 -o features.npz --resume f.html",
        "search s.npz --trials 5 -o thesis.txt",
        "search s.npz --trials 5 -o x.json --record thesis.txt",
        "study absent -o thesis.md",
        "select f.html --plot f.html",
    ],
)
def test_outputs_that_are_inputs(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    place = tmp_path / "work"
    shutil.copytree(inputs, place, symlinks=True)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    monkeypatch.chdir(place)
    with pytest.raises(InputError, match=r"cannot write|did not write it"):
        call(*command.split())
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_a_command_replaces_its_own_output(inputs: Path, tmp_path: Path) -> None:
    shutil.copytree(inputs / "features", tmp_path / "pool")
    for _ in range(2):  # beside what is read, as one may
        as_json("score", tmp_path / "pool", "-o", tmp_path / "pool" / "scores.npz", "--fresh")


def test_an_empty_file_and_earlier_results_are_replaced(inputs: Path, tmp_path: Path) -> None:
    front, trials = tmp_path / "front", tmp_path / "trials"  # as mktemp makes them
    front.touch()
    trials.touch()
    for _ in range(2):
        call("search", inputs / "s.npz", "--trials", 5, "-o", front, "--record", trials)
    assert trials.read_text().startswith("number,members,")


def test_a_taken_place_is_refused_before_any_image_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plugin = tmp_path / "mine.py"
    plugin.write_text("def sample(n, labels, seed):\n    open('ran', 'w')\n    return labels")
    (tmp_path / "pool" / "fake").mkdir(parents=True)
    (tmp_path / "pool" / "fake" / "mine.npz").write_bytes(b"another's")
    with pytest.raises(InputError, match=r"mine.npz exists already: .* --force"):
        call("bank", plugin, "--pool", tmp_path / "pool", "--labels", "0:3")
    with pytest.raises(InputError, match="which this command has read"):
        call("study", "no-such-sweep", "-o", "page.md", "--notes", "page.md")
    assert not (tmp_path / "ran").exists()
