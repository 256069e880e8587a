"""Ensemble search: time to the best known front, peers, scale.

Every figure is measured in this run. ``seconds`` are wall time of one process that should have a
core for itself; ``cpu`` tells how much of one it got. Parts: ``front``, ``peers``, ``scale``, and
``hidden``: pools of the same kind with other seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from search_scale import scale, show_scale

from ensgan.errors import InputError
from ensgan.search import search
from ensgan.types import PoolScores

SHARED = Path(__file__).resolve().parents[2] / "shared" / "bench"
FORMS = ("symmetric", "directed")
PARTS = ("front", "peers", "scale", "hidden")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", default="front,peers,scale", help="of " + ", ".join(PARTS))
    parser.add_argument("--scores", type=Path, help="scores.npz; without it --pool is scored")
    parser.add_argument("--pool", type=Path, default=SHARED / "pool110.npz")
    parser.add_argument("--known", type=Path, default=SHARED / "known.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="front, hidden: of each search")
    parser.add_argument("--peers", default="random,nsga2,tpe,pymoo", help="comma-separated")
    parser.add_argument("--peer-trials", type=int, default=1000)
    parser.add_argument("--pool-seeds", default="1,2", help="hidden: seeds of other pools")
    parser.add_argument("--pool-data", type=Path, default=SHARED.parent / "data")
    parser.add_argument("--hidden-reference", type=float, default=30.0, help="seconds per form")
    parser.add_argument(
        "--hidden-members", type=int, help="only this many members of a pool, the first"
    )
    parser.add_argument("--scale-size", type=int, nargs=2, default=(1000, 10_000))
    parser.add_argument("--scale-seconds", type=float, default=20.0)
    parser.add_argument("--scale-reference", type=float, default=0.0, help="seconds; 0 leaves out")


class Pool:
    """The pool that is searched, read or scored when a part first asks for it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args

    @cached_property
    def scores(self) -> PoolScores:
        if self.args.scores is not None:
            return PoolScores.load(self.args.scores)
        if not self.args.pool.exists():
            raise InputError(f"no pool at {self.args.pool}: give --scores or --pool")
        return score(self.args.pool)

    def best_known(self, form: str) -> float | None:
        if not self.args.known.exists() or len(self.scores) != 110:
            return None
        known = json.loads(self.args.known.read_text())
        return float(known["best_known_hypervolume"][form]["value"])


def score(path: Path, members: int | None = None) -> PoolScores:
    from ensgan.metrics import score_pool

    with np.load(path, allow_pickle=False) as pool:
        names = [str(name) for name in pool["names"]]
        return score_pool(pool["real"], list(pool["fake"])[:members], names[:members])


def run(args: argparse.Namespace) -> dict[str, Any]:
    parts = args.parts.split(",")
    strange = set(parts) - set(PARTS)
    if strange:
        raise SystemExit(f"--parts {', '.join(sorted(strange))}: name some of {', '.join(PARTS)}")
    pool = Pool(args)
    result: dict[str, Any] = {}
    if "front" in parts:
        result["front"] = [
            front(pool.scores, form, pool.best_known(form), seed, args.seconds)
            for form in FORMS
            for seed in range(args.seeds)
        ]
    if "peers" in parts:
        result["peers"] = peers(pool, args)
    if "hidden" in parts:
        result["hidden"] = hidden(args)
    if "scale" in parts:
        result["scale"] = scale(*args.scale_size, args.scale_seconds, args.scale_reference)
    return result


def front(
    scores: PoolScores, form: str, known: float | None, seed: int, seconds: float
) -> dict[str, Any]:
    cpu = time.process_time()
    found = search(scores, seconds=seconds, seed=seed, inter=form)
    cpu = time.process_time() - cpu
    best = known or found.hypervolume
    early = [h for s, _, h in found.history if s <= 0.2]
    return {
        "inter": form,
        "seed": seed,
        "seconds": seconds,
        "of_best_at_0.2s": max(early, default=0.0) / best,
        "of_best_at_end": found.hypervolume / best,
        "seconds_to_99.99": min(
            (s for s, _, h in found.history if h >= 0.9999 * best), default=None
        ),
        "points": len(found),
        "evaluations": found.trials,
        "cpu": cpu,
    }


def hidden(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Pools of the same kind with other seeds: a second against a long run, both forms."""
    rows = []
    for seed in args.pool_seeds.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pool.npz"
            make = [sys.executable, str(SHARED / "pool.py"), "--seed", seed, "--out", str(path)]
            data = args.pool_data / "pneumoniamnist.npz"
            # What it says goes to stderr: stdout is for the figures.
            subprocess.run([*make, "--data", str(data)], check=True, stdout=sys.stderr)
            scores = score(path, args.hidden_members)
        for form in FORMS:
            long = search(scores, seconds=args.hidden_reference, seed=100, inter=form)
            best = long.hypervolume
            rows.append(
                {
                    "pool_seed": int(seed),
                    "members": len(scores),
                    "inter": form,
                    "reference": best,
                    "reference_evaluations": long.trials,
                    "reference_points": len(long),
                    "runs": [front(scores, form, best, s, args.seconds) for s in range(args.seeds)],
                }
            )
    return rows


def peers(pool: Pool, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The peers' own time outweighs that of the objectives by far."""
    rows = []
    best = pool.best_known("directed")
    named = [name for name in args.peers.split(",") if name]
    runs: list[tuple[str, dict[str, Any]]] = [
        (name, {"trials": args.peer_trials}) for name in ("pareto-local", "ensemble", *named)
    ]
    runs += [(name, {"seconds": 1.0}) for name in ("pareto-local", *named)]
    for name, budget in runs:
        found = search(pool.scores, sampler=name, inter="directed", seed=0, **budget)
        rows.append(
            {
                "sampler": name,
                **budget,
                "hypervolume": found.hypervolume,
                "of_best": None if best is None else found.hypervolume / best,
                "evaluations": found.trials,
                "distinct": found.distinct,
                "seconds": found.seconds,
                "smallest": min(len(point.members) for point in found),
            }
        )
    return rows


def show(result: dict[str, Any]) -> None:
    machine = result["machine"]
    print(f"{machine['processor']}, load {machine['load']:.1f}, commit {machine['commit']}")
    for row in result.get("front", ()):
        print(
            f"{row['inter']} seed {row['seed']}: {row['of_best_at_0.2s']:.6f} at 0.2 s, "
            f"{row['of_best_at_end']:.6f} at {row['seconds']:g} s (cpu {row['cpu']:.2f} s, "
            f"{row['evaluations']:,} evaluations)"
        )
    for row in result.get("hidden", ()):
        least = min(run["of_best_at_end"] for run in row["runs"])
        early = min(run["of_best_at_0.2s"] for run in row["runs"])
        print(
            f"pool of seed {row['pool_seed']}, {row['members']} members, {row['inter']}: at least "
            f"{early:.6f} at 0.2 s and {least:.6f} at {row['runs'][0]['seconds']:g} s of "
            f"{row['reference']:.5f} ({row['reference_evaluations']} evaluations)"
        )
    for row in result.get("peers", ()):
        print(
            f"{row['sampler']}: hypervolume {row['hypervolume']:.4f} after {row['evaluations']} "
            f"evaluations, {row['seconds']:.1f} s, smallest ensemble {row['smallest']}"
        )
    if "scale" in result:
        show_scale(result["scale"])
