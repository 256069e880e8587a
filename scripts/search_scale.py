"""A large made-up pool searched in a process of its own, so that its memory can be read.

Usage: scripts/search_scale.py SECONDS MEMBERS POINTS (called by bench_search.py)
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ensgan.search import search
from ensgan.types import PoolScores


def made_up(members: int, points: int, seed: int = 0) -> PoolScores:
    """Members reach clusters of points; overlap follows the shared clusters."""
    random = np.random.default_rng(seed)
    clusters = 24
    cluster = random.integers(0, clusters, points)
    reach = random.random((members, clusters)) * (random.random((members, clusters)) < 0.3)
    covered = random.random((members, points)) < reach[:, cluster] * 0.9
    norm = np.linalg.norm(reach, axis=1) + 1e-9
    overlap = (reach @ reach.T) / (norm[:, None] * norm) * random.uniform(0.7, 1.0, members)
    directed = np.clip(overlap, 0, 1)
    np.fill_diagonal(directed, np.nan)
    return PoolScores(
        names=tuple(f"G{i // 5}@{20000 * (i % 5 + 1)}" for i in range(members)),
        density=random.uniform(0.2, 1.3, members),
        coverage=covered.mean(axis=1),
        masks=np.packbits(covered, axis=1),
        directed=directed,
        k=5,
        n_real=points,
        counts=np.full(members, points),
    )


def scale(members: int, points: int, seconds: float, reference: float) -> dict[str, Any]:
    """A short search and, where ``reference`` seconds are given, a long one."""
    rows = [_in_child(seconds, members, points)]
    if reference:
        rows.append(_in_child(reference, members, points))
        rows[0]["of_reference"] = rows[0]["hypervolume"] / rows[1]["hypervolume"]
    return {"members": members, "points": points, "runs": rows}


def _in_child(seconds: float, members: int, points: int) -> dict[str, Any]:
    words = [sys.executable, str(Path(__file__)), str(seconds), str(members), str(points)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the search of {members} x {points} failed: see above")
    return dict(json.loads(done.stdout))


def one_search(seconds: float, members: int, points: int) -> dict[str, Any]:
    scores = made_up(members, points)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu = time.process_time()
    found = search(scores, seconds=seconds, seed=0)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": found.seconds,
        "cpu": time.process_time() - cpu,
        "hypervolume": found.hypervolume,
        "points": len(found),
        "evaluations": found.trials,
        "peak_mb": after / 1024,
        "peak_mb_before_search": before / 1024,
        "history": [list(entry) for entry in found.history[::10]],
    }


def show_scale(result: dict[str, Any]) -> None:
    for row in result["runs"]:
        print(
            f"{result['members']:,} × {result['points']:,}: hypervolume "
            f"{row['hypervolume']:.5f} in {row['seconds']:.0f} s ({row['cpu']:.0f} s of processor "
            f"time, {row['evaluations']:,} evaluations, peak {row['peak_mb']:.0f} MB)"
            + (f", {row['of_reference']:.4%} of the reference" if "of_reference" in row else "")
        )


if __name__ == "__main__":
    print(json.dumps(one_search(float(sys.argv[1]), *map(int, sys.argv[2:4]))))
