#!/usr/bin/env python3
"""Damage each file of a finished sweep's folder in turn and run the sweep again.

A file is cut off, zeroed, emptied, deleted, replaced by its neighbour, by the same file of another
sweep, or by an older state of its own. The next run must make it again, or refuse it by name (and
come to the same after the file is deleted), or do without it; then a further run that needs it (a
longer training, more classifiers, another search) must not use it either. The members' hashes,
scores, front, choice, table and ensemble are compared with an untouched sweep's to the last bit.

Exit code: 0 when nothing is different, lost or used in silence, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MLFLOW_DISABLE_TELEMETRY="true")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import yaml
from bank_sweep import write_bank_sweep, write_banks
from chaos import timeless, write_section
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
GOOD = ("made again", "refused by name", "said in a warning", "not needed, and not used later")


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
        kind = _kind(name)
        alike = [p for n, p in other.files().items() if _kind(n) == kind]
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


def _kind(name: str) -> str:
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


@dataclass
class Tally:
    """What became of damaged files, by kind."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    bad: list[str] = field(default_factory=list)

    def add(self, case: Case, outcome: str, said: str = "") -> None:
        self.counts[_kind(case.name)][outcome] += 1
        if outcome not in GOOD:
            said = " ".join(said.split())[:300]
            self.bad.append(f"{case.name} {case.damage}: {outcome} {said}")
            print(self.bad[-1], file=sys.stderr, flush=True)


def judge(sweep: Sweep, case: Case, expected: Expected) -> tuple[str, str] | None:
    """Damage a file of the restored sweep and run it.

    Returns:
        what becomes of the file, and what was said; None where nothing looked at it.
    """
    sweep.restore()
    path = sweep.folder.path / case.name
    whole = path.read_bytes()
    _put(path, case.content)
    run = sweep.run()
    if run.results is None:
        return _after_refusal(sweep, case.name, run, expected)
    if run.results != expected.now:
        return "DIFFERENT", _difference(run.results, expected.now)
    if run.warned and path.name in run.warned:
        return "said in a warning", run.warned
    return ("made again", "") if _same(path, whole) else None


def judge_later(sweep: Sweep, cases: Sequence[Case], expected: Expected) -> list[tuple[str, str]]:
    """What becomes of files that nothing looked at in a run that needs them.

    All of them are damaged at once; one by one only where that run comes to anything else.
    """
    sweep.restore()
    for case in cases:
        _put(sweep.folder.path / case.name, case.content)
    sweep.run()
    further = sweep.run(sweep.further)
    if further.results == expected.further:
        return [("not needed, and not used later", "")] * len(cases)
    if len(cases) > 1:
        return [judge_later(sweep, [case], expected)[0] for case in cases]
    if further.results is not None:
        return [("USED IN SILENCE", _difference(further.results, expected.further))]
    outcome, said = _after_refusal(sweep, cases[0].name, further, expected, sweep.further)
    return [("not needed, and not used later" if outcome == GOOD[1] else outcome, said)]


@dataclass(frozen=True)
class Expected:
    """Results of an untouched sweep: as it is, and of the further run."""

    now: dict[str, Any]
    further: dict[str, Any]


def _after_refusal(
    sweep: Sweep, name: str, run: Run, expected: Expected, settings: Sequence[str] = ()
) -> tuple[str, str]:
    """A refusal must name the file; with the file deleted the sweep comes to the same."""
    path = sweep.folder.path / name
    if run.said.startswith("TRACEBACK"):
        return "TRACEBACK", run.said
    if path.name not in run.said and path.parent.name not in run.said:
        return "REFUSED WITHOUT A NAME", run.said
    path.unlink(missing_ok=True)
    again = sweep.run(settings)
    if again.results is None:
        return "LOST", f"{run.said} – and without the file: {again.said}"
    wanted = expected.further if settings else expected.now
    if again.results != wanted:
        return "DIFFERENT", _difference(again.results, wanted)
    return "refused by name", run.said


def _put(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def _same(path: Path, whole: bytes) -> bool:
    if not path.exists():
        return False
    now = path.read_bytes()
    if now != whole and path.suffix == ".json":
        with suppress(ValueError):
            return bool(timeless(json.loads(now)) == timeless(json.loads(whole)))
    return now == whole


def _difference(found: Any, wanted: Any) -> str:
    return ", ".join(k for k in sorted({*found, *wanted}) if found.get(k) != wanted.get(k))


def attack(
    folder: Path,
    only: str = "",
    most: int | None = None,
    *,
    trains: bool = True,
    each: int | None = None,
) -> Tally:
    """Damage every file of a sweep in every way.

    Args:
        folder: works there.
        trains: the sweep trains GANs; one of generators from elsewhere takes a tenth of the time.
        only: part of the names of the files that are damaged.
        most: cases, evenly spread; all by default.
        each: files of a kind that are damaged in each way; all by default.
    """
    sweep = Sweep(folder / "sweep", trains=trains)
    other = Sweep(folder / "other", seed=8, trains=trains)
    first = sweep.run()
    assert first.results is not None
    further = sweep.run(sweep.further)
    assert further.results is not None, further.said
    expected = Expected(first.results, further.results)
    sweep.restore()
    cases = first_of_each([case for case in all_cases(sweep, other) if only in case.name], each)
    tally = Tally()
    unread: dict[str, list[Case]] = defaultdict(list)
    for index in range(0, len(cases), max(1, len(cases) // (most or len(cases)))):
        case = cases[index]
        judged = judge(sweep, case, expected)
        if judged is None:
            unread[case.damage].append(case)
        else:
            tally.add(case, *judged)
    for alike in unread.values():
        for case, judged in zip(alike, judge_later(sweep, alike, expected), strict=True):
            tally.add(case, *judged)
    return tally


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
        seen[_kind(case.name), case.damage] += 1
        if most is None or seen[_kind(case.name), case.damage] <= most:
            kept.append(case)
    return kept


def report(tally: Tally, command: str, seconds: float, of: str) -> str:
    """A section of a page.

    Args:
        of: the sweep.
    """
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
        cwd=Path(__file__).parent,
    ).stdout.strip()  # fmt: skip
    outcomes = [*GOOD, *sorted({o for c in tally.counts.values() for o in c} - {*GOOD})]
    lines = [f"| file | {' | '.join(outcomes)} |", "|---|" + "---:|" * len(outcomes)]
    for kind, counts in sorted(tally.counts.items()):
        lines.append(f"| `{kind}` | {' | '.join(str(counts[o] or '') for o in outcomes)} |")
    total: Counter[str] = sum(tally.counts.values(), Counter())
    lines.append(f"| all | {' | '.join(str(total[o]) for o in outcomes)} |")
    return (
        f"## Damaged files of {of}\n\n`{command}` at commit {commit}, "
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} shared CPUs, Python "
        f"{platform.python_version()}, {seconds:.0f} s: {total.total()} cases, each file cut off, "
        "zeroed, emptied, deleted, replaced by a neighbour, by another sweep's and by an older "
        f"state of its own.\n\n" + "\n".join([*lines, "", *(f"- {bad}" for bad in tally.bad), ""])
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="files whose name holds this")
    parser.add_argument("--banks", action="store_true", help="a sweep that trains no GAN")
    parser.add_argument("--most", type=int, help="cases [default: all]")
    parser.add_argument(
        "--each", type=int, help="files of a kind damaged in each way [default: all]"
    )
    parser.add_argument("--log", type=Path, help="write its section of this page")
    args = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ensgan-damage-") as name:
        tally = attack(Path(name), args.only, args.most, trains=not args.banks, each=args.each)
    page = report(
        tally,
        " ".join(["scripts/chaos damage", *sys.argv[1:]]),
        time.monotonic() - begin,
        "a sweep of banks" if args.banks else "a sweep that trains",
    )
    print(page)
    if args.log:
        write_section(args.log, page)
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main())
