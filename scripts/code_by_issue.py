"""Which issue each line of code stands for: `git blame` of ensgan/, by branches.

python scripts/code_by_issue.py            a Markdown table of HEAD
python scripts/code_by_issue.py --json     the same as one JSON object
python scripts/code_by_issue.py --past A..B  without the commits that only shortened

A line belongs to the commit that last wrote it; white space and moves between files do not count
as writing. A commit belongs to the branch that the nearest later merge of main into it names.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.measure_code import Module

ROOT = Path(__file__).resolve().parents[1]
START, REDESIGNED = "d4efd87", "0603369"
BRANCHES = {
    19: ("i19", "house", "search"),
    20: ("i20", "i20b", "study", "gstar", "labels"),
    21: ("i21", "pack", "card"),
    22: ("i22", "gpus", "score", "lead13"),
    23: ("i23", "cases", "data"),
    24: ("i24", "vary", "steer", "grow"),
    25: ("i25", "first"),
    26: ("i26", "chaos"),
}
ISSUES = {branch: issue for issue, branches in BRANCHES.items() for branch in branches}
TITLES = {
    0: f"in the tree at {START}, unchanged",
    1: "rewritten by the redesign (19), nothing added",
    19: "19, later: the house",
    20: "20: G* by labels, studies",
    21: "21: packs and the GPU",
    22: "22: scores on GPUs and in parts",
    23: "23: odd data",
    24: "24: steering, growth, variations, merging",
    25: "25: the first day",
    26: "26: chaos and gates",
    99: "between branches",
}


def git(*words: str) -> str:
    """What git says."""
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def owners() -> dict[str, int]:
    """The group of every commit."""
    group = dict.fromkeys(git("rev-list", START).split(), 0)
    for commit in git("rev-list", f"{START}..{REDESIGNED}").split():
        group[commit] = 1
    lines = [
        line.split("\x1f")
        for line in git("log", "--format=%H\x1f%P\x1f%s", f"{REDESIGNED}..HEAD").splitlines()
    ]
    parents = {commit: above.split() for commit, above, _ in lines}
    branch = {}
    for commit, _, subject in lines:
        if named := re.match(r"Merge (?:branch '?)?main'? into ([\w-]+)", subject):
            branch[commit] = ISSUES.get(named[1], 19)
    # Merges by other sentences lie on the branch that a later merge names.
    for start, issue in branch.items():
        commit = start
        while commit in parents and group.setdefault(commit, issue) == issue:
            commit = parents[commit][0]
            if commit in branch and commit != start:
                break
    for commit in parents:
        group.setdefault(commit, 99)
    return group


def lines_of(path: str, past: list[str]) -> list[str]:
    """The commit of every code line of a file; of those in ``past``, that of what was there."""
    ignored = [f"--ignore-rev={commit}" for commit in past]
    words = ("blame", "-w", "-M", "-C", "-s", "-l", *ignored, "HEAD", "--", path)
    commits = [line.split()[0].lstrip("^?*") for line in git(*words).splitlines()]
    module = Module(Path(path), path, git("show", f"HEAD:{path}"))
    return [commits[line - 1] for line in sorted(module.code_and_comments[0])]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--past",
        metavar="A..B",
        nargs="+",
        default=[],
        help="lines that these commits rewrote belong to what was there (a range, or one commit)",
    )
    given = parser.parse_args()
    past = []
    for which in given.past:
        just_it = () if ".." in which else ("-1",)
        past += git("rev-list", "--first-parent", "--no-merges", *just_it, which).split()
    group = owners()
    paths = [
        path
        for path in git("ls-tree", "-r", "--name-only", "HEAD", "ensgan").split()
        if path.endswith(".py")
    ]
    code: Counter[int] = Counter()
    files: Counter[int] = Counter()
    with ThreadPoolExecutor(4) as pool:
        for commits in pool.map(partial(lines_of, past=past), paths):
            groups = Counter(_of(group, commit) for commit in commits)
            code += groups
            files[max(groups, key=lambda one: groups[one], default=1)] += 1
    rows = {TITLES[key]: {"code": code[key], "files": files[key]} for key in TITLES}
    rows["all"] = {"code": code.total(), "files": files.total()}
    if given.json:
        print(json.dumps(rows))
        return 0
    print("| lines that were last written for | code lines | files (most of their lines) |")
    print("|---|---:|---:|")
    for title, row in rows.items():
        print(f"| {title} | {row['code']:,} | {row['files']} |")
    return 0


def _of(group: dict[str, int], commit: str) -> int:
    """The group of a commit that blame names, perhaps cut by one sign."""
    if commit in group:
        return group[commit]
    return next((group[full] for full in group if full.startswith(commit)), 99)


if __name__ == "__main__":
    sys.exit(main())
