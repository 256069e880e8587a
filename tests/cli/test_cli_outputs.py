"""No command overwrites what it reads, whichever way the two are named."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import as_json, call

from ensgan.cli.app import COMMANDS, load_command
from ensgan.errors import InputError

# Every option and argument that is a path: those that are read, and for those that are written a
# command whose output is OUT, with the ending that it must have.
READ = {
    *("spec", "scores", "front", "pool", "real", "fake", "features"),  # arguments
    *("--storage", "--data-dir", "--plugin", "--costs", "--resume", "--features", "--scores"),
    *("--other", "--beside", "--weights", "--held-out", "--extend", "--notes"),
}  # fmt: skip
WRITTEN = {
    ("merge", "--output"): ["merge a b -o OUT.yaml"],
    ("init", "--output"): ["init --data phantom -o OUT.yaml"],
    ("search", "-o"): ["search s.npz --trials 5 -o OUT.json"],
    ("search", "--record"): ["search s.npz --trials 5 -o x.json --record OUT.csv"],
    ("search", "--plot"): [
        "search s.npz --trials 5 -o x.json --plot OUT.png",
        "search s.npz --trials 5 -o x.json --plot OUT.html",
    ],
    ("search", "--heat-map"): ["search s.npz --trials 5 -o x.json --heat-map OUT.png"],
    ("select", "--plot"): ["select f.html --plot OUT.png", "select f.html --plot OUT.html"],
    ("bundle", "-o"): ["bundle f.html features --scores s.npz -o OUT"],
    ("bank", "-p"): ["bank gan.py --pool OUT --labels 0:3"],
    ("score", "--output"): ["score features.npz -o OUT.npz"],
    ("study", "-o"): ["study absent -o OUT.md"],
    ("pull", "-o"): ["pull absent -o OUT"],
    ("sample", "-o"): ["sample absent -n 2 -o OUT.npz", "sample absent -n 2 -o OUT"],
    ("report", "-o"): ["report absent -o OUT.html"],
}


def walk() -> Iterator[tuple[str, str]]:
    """Every command, and every path among its options and arguments."""
    for name in COMMANDS:
        command = load_command(name)
        for each in getattr(command, "commands", {name: command}).values():
            for option in each.params:
                if "Path" in str(option.type_descriptor.annotation):
                    yield name, option.opts[-1]


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


def test_every_path_is_read_or_written() -> None:
    found = set(walk())
    assert found >= set(WRITTEN)
    assert {option for _, option in found - set(WRITTEN)} == READ


@pytest.mark.parametrize("command", [each for lines in WRITTEN.values() for each in lines])
@pytest.mark.parametrize("there", ["a file", "a link to one", "a folder that is not empty"])
def test_no_command_replaces_what_it_did_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, there: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name = next(word for word in command.split() if word.startswith("OUT"))
    theirs = tmp_path / (name if there == "a file" else "thesis")
    if there == "a folder that is not empty":
        (tmp_path / name).mkdir()
        theirs = tmp_path / name / "thesis"
        if command.startswith("bank"):  # a pool is such a folder: what is in the way is a file
            theirs = tmp_path / name / "fake" / "gan.json"
            theirs.parent.mkdir()
    theirs.write_text("years of work")
    if there == "a link to one":
        (tmp_path / name).symlink_to(theirs)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"exists already|other files|is a folder|may write to"):
        call(*command.split())
    assert sorted(tmp_path.rglob("*")) == before
    assert theirs.read_text() == "years of work"


def test_figures_beside_a_page_are_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page-medical-front.png").write_bytes(b"of another program")
    with pytest.raises(InputError, match=r"page-medical-front.png exists already.*did not write"):
        call("study", "absent", "-o", "page.md")


@pytest.mark.parametrize("name", ["f.png", "f.html"])
def test_figures_of_ours_are_replaced_and_others_with_force(
    inputs: Path, tmp_path: Path, name: str
) -> None:
    picture = tmp_path / name
    for _ in range(2):
        call("select", inputs / "f.html", "--plot", picture)
    made = picture.read_bytes()
    theirs = made.replace(b"ensgan", b"other!")
    picture.write_bytes(theirs)
    with pytest.raises(InputError, match=r"did not write it: name another, or .* --force"):
        call("search", inputs / "s.npz", "--trials", 5, "-o", tmp_path / "f", "--plot", picture)
    assert picture.read_bytes() == theirs and not (tmp_path / "f").exists()
    call("select", inputs / "f.html", "--plot", picture, "--force")
    assert picture.read_bytes() == made


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


def test_pools_that_are_scored_into_one_output_at_once_all_end(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    expected = set()
    for pool in "ab":
        real, fake = rng.normal(size=(300, 200)), rng.normal(size=(3, 300, 200))
        np.savez(tmp_path / f"{pool}.npz", real=real, fake=fake, names=[pool, "x", "y"])
        as_json("score", tmp_path / f"{pool}.npz", "-o", tmp_path / "alone.npz")
        expected.add((tmp_path / "alone.npz").read_bytes())
    # So little memory that features are unpacked into files beside the output.
    command = [sys.executable, "-m", "ensgan", "score", "-o", "s.npz", "--memory", "0.001"]
    running = [subprocess.Popen([*command, f"{pool}.npz"], cwd=tmp_path) for pool in "abab"]
    assert [process.wait() for process in running] == [0] * 4
    assert (tmp_path / "s.npz").read_bytes() in expected
    names = {"a.npz", "b.npz", "alone.npz", "s.npz"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_names_in_trials_are_no_formulas(inputs: Path, tmp_path: Path) -> None:
    with np.load(inputs / "features.npz") as archive:
        np.savez(tmp_path / "f.npz", **{**archive, "names": ["=1+1", "@x", "-2"]})
    call("score", tmp_path / "f.npz", "-o", tmp_path / "s.npz")
    place = {"-o": tmp_path / "front", "--record": tmp_path / "t.csv"}
    call("search", tmp_path / "s.npz", "--sampler", "exhaustive", *sum(place.items(), ()))
    with (tmp_path / "t.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["members"][:2] for row in rows} <= {"'=", "'@", "'-"} and rows


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
