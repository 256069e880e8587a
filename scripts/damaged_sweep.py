"""The sweep whose folder is damaged, and everything that is done to its files."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MLFLOW_DISABLE_TELEMETRY="true")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import yaml
from bank_sweep import write_bank_sweep, write_banks
from chaos import timeless
from local_sweep import Home
from tiny_sweep import tiny

from ensgan.errors import EnsganError
from ensgan.files import read_json, sha256_file
from ensgan.launch.finished import known_result
from ensgan.sweep.folder import SweepFolder

FURTHER = ("search.trials=41", "evaluate.repeats=2", "evaluate.epochs=2")
"""Settings whose run needs what a finished sweep does not look at any more."""
LONGER = "train.steps=8"
"""Of a sweep that trains, too: its GANs go on from their states."""


def write_spec(folder: Path, seed: int, *, trains: bool) -> Path:
    """A sweep of two trained GANs and a bank, or of three banks, chosen by validation."""
    if not trains:
        return write_bank_sweep(folder, "tiny", seed=seed, select={"rule": "validated"})
    folder.mkdir(parents=True)
    write_banks(folder, "A", size=32)
    tree = tiny(
        seed=seed,
        members=[{"name": "A", "images": "A.npz"}],
        train={"resume_every": 3},
        select={"rule": "validated"},
        evaluate={"strategies": ["real", "all", "selected"], "repeats": 1},
    )
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@dataclass
class Run:
    """What running the sweep came to: its results, or what it said."""

    results: dict[str, Any] | None
    said: str = ""
    warned: str = ""


class Sweep:
    """A finished sweep that can be put back as it was."""

    def __init__(self, place: Path, seed: int = 7, *, trains: bool = True) -> None:
        self.place = place
        self.further = (*FURTHER, LONGER) if trains else FURTHER
        self.file = write_spec(place, seed, trains=trains)
        self.home = Home(place / "runs")
        self.older: dict[str, bytes] = {}
        self.home.run(self.file, on_event=self._remember_older)
        self.folder = SweepFolder(self.home.path / "sweeps/tiny")
        shutil.copytree(self.home.path, place / "whole")

    def _remember_older(self, event: Any) -> None:
        """Files as they are when scoring begins; later ones replace them."""
        if event.kind == "stage" and event.fields == {
            **event.fields,
            "stage": "score",
            "state": "start",
        }:
            root = self.home.path / "sweeps/tiny"
            self.older = {
                path.relative_to(root).as_posix(): path.read_bytes()
                for path in root.rglob("*")
                if path.is_file()
            }

    def restore(self) -> None:
        """Everything as it was after the sweep, times of files too."""
        shutil.rmtree(self.home.path)
        shutil.copytree(self.place / "whole", self.home.path)

    def files(self) -> dict[str, Path]:
        """Every file by its name below the folder; the lock holds nothing."""
        root = self.folder.path
        paths = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "lock")
        return {path.relative_to(root).as_posix(): path for path in paths}

    def run(self, settings: Sequence[str] = ()) -> Run:
        """What ``ensgan sweep`` does with the folder as it is."""
        if known_result(self.file, settings, self.home.path, None) is None:
            try:
                self.home.run(self.file, settings=settings, retrain=True)
            except EnsganError as error:
                return Run(None, str(error))
            except Exception as error:
                return Run(None, f"TRACEBACK {type(error).__name__}: {error}")
        warned = " ".join(
            str(event.fields["message"]) for event in self.home.events if event.kind == "warning"
        )
        manifest = self.folder.read()
        if manifest.failed:
            return Run(None, str(manifest.failed))
        return Run(self.results(), warned=warned)

    def results(self) -> dict[str, Any]:
        """All results that the manifest names, without times."""
        manifest = self.folder.read()
        tree = manifest.tree(self.folder.path)
        for member in tree["members"].values():  # a GAN trained anew lies in another folder
            member["weights"] = Path(member["weights"]).name if member["weights"] else None
        named = ("downstream", "ensemble")  # by contents that say how long it took
        parts = {"manifest": timeless({k: v for k, v in tree.items() if k not in named})}
        for name in ("front", "scores", "validation", "downstream", "privacy", "trials"):
            parts[name] = content(getattr(manifest, name))
        ensemble = read_json(manifest.ensemble / "ensemble.json")
        parts["ensemble"] = {**timeless(ensemble["files"]), "members": ensemble["members"]}
        del parts["ensemble"]["README.md"]  # it says when
        for name, member in manifest.members.items():
            parts[name] = [
                sha256_file(p) for p in (member.weights, member.samples, member.features)
            ]
        return parts


def content(path: Path) -> Any:
    """A result to compare."""
    if path.suffix == ".json":
        return timeless(read_json(path))
    if path.suffix == ".csv":  # seconds are the last column
        return [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    return sha256_file(path)


def damages(sweep: Sweep, other: Sweep) -> dict[str, Callable[[str, Path], bytes | None]]:
    """By name, the content that takes a file's place; None where there is none, b"" empties it."""

    def neighbour(name: str, path: Path) -> bytes | None:
        beside = [p for p in sorted(path.parent.iterdir()) if p.suffix == path.suffix and p != path]
        return beside[0].read_bytes() if beside and path.parent != sweep.folder.path else None

    def others(name: str, path: Path) -> bytes | None:
        kind = kind_of(name)
        alike = [p for n, p in other.files().items() if kind_of(n) == kind]
        alike.sort(key=lambda p: p.name.partition("-")[0] != path.name.partition("-")[0])
        return alike[0].read_bytes() if alike else None

    return {
        "cut off": lambda name, path: path.read_bytes()[: path.stat().st_size // 2],
        "zeroed": lambda name, path: bytes(path.stat().st_size),
        "emptied": lambda name, path: b"",
        "a neighbour's": neighbour,
        "another sweep's": others,
        "an older one": lambda name, path: sweep.older.get(name),
    }


def kind_of(name: str) -> str:
    """A kind of file: its folder, and its name without what differs between files of a kind."""
    folder, _, last = name.rpartition("/")
    top = folder.partition("/")[0]
    stem, _, end = last.rpartition(".")
    if top == "train" and stem not in ("resume", "heartbeat", "history", "identity", "claim"):
        stem = "snapshot"
    elif top in ("samples", "features", "members", "evaluate", "logs"):
        stem = (
            stem.partition("-")[0] if stem.startswith(("real-", "validation-", "table-")) else "*"
        )
    elif top:
        stem = stem.partition("-")[0] if "-" in stem else "*"
    return f"{top}/{stem}.{end}" if top else last


@dataclass(frozen=True)
class Case:
    """A file of a sweep's folder and what takes its place; None deletes it."""

    name: str
    damage: str
    content: bytes | None


def all_cases(sweep: Sweep, other: Sweep) -> list[Case]:
    """Every file of a sweep damaged in every way."""
    cases = []
    for name, path in sweep.files().items():
        whole = path.read_bytes()
        cases.append(Case(name, "deleted", None))
        for damage, make in damages(sweep, other).items():
            content = make(name, path)
            if content is not None and content != whole:
                cases.append(Case(name, damage, content))
    return cases


def first_of_each(cases: Sequence[Case], most: int | None) -> list[Case]:
    """At most so many cases of each kind of file and damage."""
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for case in cases:
        seen[kind_of(case.name), case.damage] += 1
        if most is None or seen[kind_of(case.name), case.damage] <= most:
            kept.append(case)
    return kept
