"""What the fuzzer counts, and the table and page that it writes of it."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Counts:
    """What became of a reader's inputs; ``now`` is said of the kinds of faults at the run's end."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[int]] = field(default_factory=dict)
    now: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    slowest: float = 0.0
    peak: int = 0


def table(found: dict[str, Counts]) -> str:
    """A table by reader and outcome."""
    lines = [
        "| reader | inputs | accepted | refused in a sentence | FAULT | per second | slowest | "
        "peak memory |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    total: Counter[str] = Counter()
    for name, counts in found.items():
        total += counts.outcomes
        inputs = counts.outcomes.total()
        lines.append(
            f"| {name} | {inputs:,} | {counts.outcomes['accepted']:,} | "
            f"{counts.outcomes['refused']:,} | {counts.outcomes['FAULT']:,} | "
            f"{inputs / max(counts.seconds, 1e-3):,.0f} | {counts.slowest:.1f} s | "
            f"{counts.peak >> 20} MB |"
        )
    lines.append(
        f"| all | {total.total():,} | {total['accepted']:,} | {total['refused']:,} | "
        f"{total['FAULT']:,} | | | |"
    )
    return "\n".join(lines)


def page(found: dict[str, Counts], command: str) -> str:
    """What ``--log`` writes."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
        cwd=Path(__file__).parent,
    ).stdout.strip()  # fmt: skip
    kinds = [
        f"| {name} | {kind} | {len(indices):,} | {indices[0]} | {counts.now[kind]} |"
        for name, counts in found.items()
        for kind, indices in counts.faults.items()
    ]
    faults = "\n".join(
        [
            "| reader | fault | inputs | first | read again with the code of this commit |",
            "|---|---|---:|---:|---|",
            *kinds,
        ]
    )
    inputs = sum(each.outcomes.total() for each in found.values())
    seconds = sum(each.seconds for each in found.values())
    return (
        f"# Damaged inputs: {inputs:,}\n\n`{command}` at commit {commit}, "
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} shared CPUs, Python "
        f"{platform.python_version()}, {seconds:,.0f} s of reading in one process at a time.\n\n"
        f"{table(found)}\n" + (f"\n{faults}\n" if kinds else "\nNo faults.\n")
    )
