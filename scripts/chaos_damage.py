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
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos import timeless, write_section
from damaged_sweep import Case, Run, Sweep, all_cases, first_of_each, kind_of  # settles OMP

GOOD = ("made again", "refused by name", "said in a warning", "not needed, and not used later")


@dataclass
class Tally:
    """What became of damaged files, by kind."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    bad: list[str] = field(default_factory=list)

    def add(self, case: Case, outcome: str, said: str = "") -> None:
        self.counts[kind_of(case.name)][outcome] += 1
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
