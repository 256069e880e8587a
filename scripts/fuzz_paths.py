"""Command lines whose paths are replaced, one at a time, by every odd thing a path can lead to."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from fuzz_seeds import SPEC, labelled

LINES = (
    "doctor --storage @runs --json",
    "zoo --plugin @mine.py --json",
    "data check @images --data-dir @data --image-size 16 --json",
    "init --data @images --data-dir @data -o @made/new.yaml --image-size 16",
    "sweep @banks.yaml --data-dir @data --storage @made/runs --address none",
    "sweep @banks.yaml --dry-run --data-dir @data --storage @runs",
    "train @tiny.yaml --gan SNGAN --data-dir @data --storage @made/runs",
    "status @banks --storage @runs --json",
    "logs @banks --storage @runs",
    "merge @banks other -o @made/merged.yaml --storage @runs",
    "sync @banks --storage @runs",
    "stop @banks --storage @runs",
    "pause @banks --storage @runs",
    "resume @banks --storage @runs",
    "retry @banks --gan SNGAN --storage @runs",
    "priority @banks 7 --gan SNGAN --storage @runs",
    "add @banks --gan SNGAN --storage @runs",
    "budget @banks --gpu-hours 3 --storage @runs",
    "bank @gan.py --pool @made/pool --labels 0:3 --json",
    "bank @gan.py -p @pool --data @images --data-dir @data --image-size 16 -n 4 --name made",
    "prdc @real.npy @fake.npy -k 3 --json",
    "score @pool -o @made/s.npz -k 3 --held-out @images --extend @own-scores.npz --image-size 16",
    "score @features.npz -o @made/s.npz -k 3 --held-out @held.npy --json",
    "score @pool -o @made/s.npz -k 3 --weights @weights.safetensors --extractor resnet50",
    "score @pool -o @made/s.npz -k 3 --data @images --data-dir @data --image-size 16",
    "search @scores.npz -o @made/f.json --trials 20 --costs @costs.json --third cost --record "
    "@made/t.csv --plot @made/f.png --heat-map @made/h.png",
    "search @own-scores.npz -o @made/f.json --trials 20 --features @pool --objectives frechet",
    "search @scores.npz -o @made/f.json --trials 20 --sampler tpe --storage @made/a.journal",
    "search @scores.npz -o @made/f.json --trials 20 --resume @own.json --objectives @mine.py:OWN",
    "select @front.json --scores @scores.npz --other @scores.npz --beside @own.json --plot "
    "@made/f.png --rule @mine.py:RULE --json",
    "select @front.json --scores @scores.npz --membership 2 --costs @costs.json",
    "bundle @own-front.json @pool -o @made/bundle --scores @own-scores.npz --data @images "
    "--data-dir @data --image-size 16 --record --storage @runs",
    "evaluate @banks --storage @runs --repeats 1 --epochs 1 --width 4 --address none",
    "evaluate @ensemble --dataset @images --data-dir @data --repeats 1 --epochs 1 --storage @runs "
    "--extractor resnet50 --extractor-weights @weights.safetensors --address none",
    "study @banks -o @made/study.md --notes @notes.md --storage @runs --repeats 1 --epochs 1 "
    "--address none",
    "report @banks -o @made/report.html --storage @runs",
    "compare @banks banks --storage @runs --json",
    "runs --storage @runs",
    "show @banks --storage @runs",
    "ui @banks --port 5001 --storage @runs",
    "pull @banks -o @made/pulled --storage @runs",
    "verify @ensemble --storage @runs",
    "sample @ensemble -n 4 -o @made/samples.npz --storage @runs",
    "sample @ensemble -n 4 -o @made/samples --storage @runs",
    "serve @ensemble --port 8800 --storage @runs",
    "promote @banks --name own --storage @runs",
)  # fmt: skip
"""Every path option and argument of every command, marked with an @."""


def _nothing(path: Path) -> None:
    del path


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "theirs.txt").write_text("years of work")


def _locked_file(path: Path) -> None:
    path.write_text("years of work")
    path.chmod(0)


def _locked_folder(path: Path) -> None:
    _folder(path)
    path.chmod(0)


MADE: Mapping[str, Callable[[Path], object]] = {
    "absent": _nothing,
    "absent/below": _nothing,
    "thesis.txt": lambda path: path.write_text("years of work"),
    "notes.md/below": _nothing,
    "empty": lambda path: path.touch(),
    "emptydir": lambda path: path.mkdir(),
    "folder": _folder,
    "fifo": os.mkfifo,
    "socket": _socket,
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere/at/all"),
    "to-notes": lambda path: path.symlink_to("notes.md"),
    "locked": _locked_file,
    "locked-folder": _locked_folder,
    "locked-folder/below": _nothing,
    "n\udcff": lambda path: path.write_bytes(b"x"),
    "x" * 300: _nothing,
    "x/" * 3000: _nothing,
    "line\nbreak": _nothing,
    "\x1b[31mred": _nothing,
}
"""What is made in the current folder under a name."""
THERE = (
    "", ".", "..", "/", "~", "-", "--", "%41", "a:b", "/dev/null", "/dev/full", "/dev/zero",
    "/dev/stdin", "/dev/stdout", "/dev/fd/0", "/proc", "/proc/self/mem", "/proc/self/environ",
    "/proc/self/fd", "/sys", "/etc/passwd", "file:///etc/passwd", "sqlite:///x.db", "~nobody/x",
)  # fmt: skip
"""What is there, or is a name that something else might be made of."""
NAMED = (
    "a b",
    "it's",
    'say "so"',
    "%41",
    "a&b;c",
    "$HOME",
    "é",
    "[bold]",
    "#1?x",
    "n\udcff",
    "a\nb",
)
"""Names under which the right thing must be found as well, and outputs be written."""


def seeds() -> list[bytes]:
    """A JSON list for every path of every line and every odd thing."""
    found = []
    for line in LINES:
        words = line.split()
        places = [at for at, word in enumerate(words) if word.startswith("@")]
        plain = [word.removeprefix("@") for word in words]
        others = [plain[at] for at in places]
        for at in places:
            kinds = [("is", odd) for odd in (*MADE, *THERE)]
            kinds += [(how, name) for name in others for how in ("is", "hard", "soft", "dotted")
                      if name != plain[at]]  # fmt: skip
            kinds += [("called", name) for name in NAMED]
            found += [
                json.dumps([plain, at, *kind]).encode() for kind in (("is", plain[at]), *kinds)
            ]
    return found


def words_of(spec: bytes) -> list[str]:
    """The words of a seed's command line; what they name is made in the current folder."""
    words, at, how, name = json.loads(spec)
    place, colon, inside = words[at].partition(":")  # FILE.py:NAME
    path, given = Path(name), name
    if how == "is" and name in MADE:
        MADE[name](path)
    elif how == "dotted":
        given = f"made/../{name}"
    elif how in ("hard", "soft") and path.exists():
        given = f"{how}-{path.name}"
        if how == "hard" and path.is_file():
            Path(given).hardlink_to(name)
        else:
            Path(given).symlink_to(name)
    elif how == "called":
        given = f"called/{name}{Path(place).suffix}"
        Path("called").mkdir()
        if Path(place).exists():
            Path(given).symlink_to(Path(place).absolute())
    words[at] = f"{given}{colon}{inside}"
    return [str(word) for word in words]


GENERATOR = """
import numpy as np
def sample(n, labels, seed):
    return np.random.default_rng(seed).random((n, 16, 16))
"""
PLUGIN = """
from dataclasses import replace
from ensgan import zoo
from ensgan.search import SelectionRule, find_form
zoo.register(replace(zoo.get("SNGAN"), name="OWN"))
OWN = replace(find_form("paper"), name="own")
RULE = SelectionRule("mine", lambda asked: -asked.better[:, 0], lambda front: "small")
"""


def fill(place: Path, weights: Path) -> None:
    """Add to a current folder for command lines what the lines here name too.

    Args:
        weights: an extractor's file.
    """
    (place / "gan.py").write_text(GENERATOR)
    (place / "mine.py").write_text(PLUGIN)
    (place / "tiny.yaml").write_bytes(SPEC.partition(b"members:")[0])
    (place / "notes.md").write_text("What was tried.")
    (place / "costs.json").write_text(json.dumps({"A": 1.0, "B": 2.0, "C": 0.5}))
    for name in ("data", "made"):
        (place / name).mkdir()
    shutil.copytree(place / "images", place / "pool" / "real")
    for name in "AB":
        (place / "pool" / "fake").mkdir(exist_ok=True)
        (place / "pool" / "fake" / f"{name}.npz").write_bytes(labelled(16))
    shutil.copy(weights, place / "weights.safetensors")
    shutil.copytree(place / "runs" / "sweeps" / "banks", place / "runs" / "sweeps" / "other")
    np.save(place / "held.npy", np.random.default_rng(2).normal(size=(9, 3)))
    for line in (
        "score pool -o own-scores.npz -k 3 --image-size 16 --data images",
        "search own-scores.npz -o own-front.json --trials 20",
        "search scores.npz -o own.json --trials 20 --objectives mine.py:OWN",
    ):
        subprocess.run(
            [sys.executable, "-m", "ensgan", *line.split()],
            cwd=place,
            check=True,
            stdout=subprocess.DEVNULL,
        )


def contents(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Size and time of every file but those of the storage, of what commands make, and empty ones
    (which hold nothing to lose)."""
    for path in folder.rglob("*"):
        status = path.lstat()
        if path.parts[0] not in ("runs", "made", "data") and not path.is_dir() and status.st_size:
            yield str(path), (status.st_size, status.st_mtime_ns)


def in_place(source: Path, spec: bytes, run: Callable[[list[str]], object]) -> object:
    """Type the command line of a seed in a copy of a folder, whose files must stay as they are.

    Raises:
        AssertionError: a file was changed, or the right thing is refused under an odd name.
    """
    with tempfile.TemporaryDirectory(dir=source.parent) as name:
        shutil.copytree(source, name, dirs_exist_ok=True, symlinks=True)
        os.chdir(name)
        try:
            words = words_of(spec)
            before = dict(contents(Path()))
            try:
                return run(words)
            finally:
                after = dict(contents(Path()))
                lost = [name for name, status in before.items() if after.get(name) != status]
                if lost:
                    raise AssertionError(f"changed {lost[:3]}")
        finally:
            for locked in Path(name).glob("locked*"):
                locked.chmod(0o700)
            os.chdir(source)
