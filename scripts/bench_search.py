"""Ensemble search: evaluations per second, time to the best known front, peers, scale.

Every figure is measured in this run. ``seconds`` are wall time of one process that should have a
core for itself; ``cpu`` tells how much of one it got.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from ensgan.errors import InputError
from ensgan.search import Evaluator, search
from ensgan.types import PoolScores

SHARED = Path(__file__).resolve().parents[2] / "shared" / "bench"
FORMS = ("symmetric", "directed")
AUTHORS_TRIAL_SECONDS = 0.69  # stack and recompute all distances, 110 members, quiet core


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scores", type=Path, help="scores.npz; without it --pool is scored")
    parser.add_argument("--pool", type=Path, default=SHARED / "pool110.npz")
    parser.add_argument("--known", type=Path, default=SHARED / "known.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peers", default="random,nsga2,tpe,pymoo", help="comma-separated")
    parser.add_argument("--peer-trials", type=int, default=1000)
    parser.add_argument("--scale-seconds", type=float, default=20.0)
    parser.add_argument("--scale-reference", type=float, default=0.0, help="seconds; 0 leaves out")
    parser.add_argument("--parts", default="speed,front,peers,scale", help="what to run; or hidden")
    parser.add_argument("--pool-seeds", default="1,2", help="hidden: seeds of other pools")
    parser.add_argument("--pool-data", type=Path, default=SHARED.parent / "data")
    parser.add_argument("--hidden-reference", type=float, default=30.0, help="seconds a form")
    parser.add_argument("--reference-kernel", default="numpy", help="numpy or numba")
    parser.add_argument("--scale-child", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--scale-kernel", default="numpy", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.scale_child is not None:
        return scale_child(args.scale_child, args.scale_kernel)
    parts = args.parts.split(",")
    scores = load_scores(args)
    known = {form: best_known(args.known, scores, form) for form in FORMS}
    result: dict[str, Any] = {
        "commit": commit(),
        "processor": processor(),
        "load_before": os.getloadavg()[0],
        "best_known": known,
    }
    if "speed" in parts:
        result["speed"] = [speed(scores), speed(made_up(110, 4708))]
        result["memory_bandwidth_gb_s"] = copy_bandwidth()
    if "front" in parts:
        result["front"] = [
            front(scores, form, known[form], seed) for form in FORMS for seed in range(args.seeds)
        ]
    if "peers" in parts:
        result["peers"] = peers(scores, known, args)
    if "hidden" in parts:
        result["hidden"] = hidden(args)
    if "scale" in parts:
        result["scale"] = scale(args)
    return result


def load_scores(args: argparse.Namespace) -> PoolScores:
    if args.scores is not None:
        return PoolScores.load(args.scores)
    if not args.pool.exists():
        raise InputError(f"no pool at {args.pool}: give --scores or --pool")
    from ensgan.metrics import score_pool

    with np.load(args.pool, allow_pickle=False) as pool:
        return score_pool(pool["real"], list(pool["fake"]), [str(n) for n in pool["names"]])


def best_known(path: Path, scores: PoolScores, form: str) -> float | None:
    if not path.exists() or len(scores) != 110:
        return None
    return float(json.loads(path.read_text())["best_known_hypervolume"][form]["value"])


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
        overlap=0.5 * (directed + directed.T),
        k=5,
        n_real=points,
        counts=np.full(members, points),
    )


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and smallest seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), min(seconds)


def speed(scores: PoolScores) -> dict[str, Any]:
    random = np.random.default_rng(0)
    dense = random.random((1000, len(scores))) < 0.5
    rows = {}
    for kernel in ("numpy", "numba"):
        try:
            evaluator = Evaluator(scores, kernel=kernel)
        except InputError:
            continue
        evaluator(dense)
        median, best = timed(lambda e=evaluator: e(dense), 100)
        row = {"dense_per_s": 1000 / median, "dense_per_s_best": 1000 / best}
        for size in (5, 10):
            members = sorted(random.choice(len(scores), size, replace=False).tolist())
            count = evaluator.neighbours(members).values.intra_d.size
            median, best = timed(lambda e=evaluator, m=members: e.neighbours(m), 300)
            row |= {
                f"neighbours_of_{size}_per_s": count / median,
                f"neighbours_of_{size}_per_s_best": count / best,
            }
        row["times_authors_objective"] = row["dense_per_s"] * AUTHORS_TRIAL_SECONDS
        rows[kernel] = row
    words = (scores.n_real + 63) // 64
    groups = (len(scores) + 7) // 8
    blocks = (len(scores) + 15) // 16
    return {
        "members": len(scores),
        "points": scores.n_real,
        "bytes_per_dense_evaluation": {
            "masks": groups * words * 8,
            "pair_table": blocks * (blocks + 1) * 16 * 8,
        },
        "bytes_per_swap": words * 8,
        **rows,
    }


def copy_bandwidth() -> float:
    """Bytes read and written a second by one core copying 64 MB."""
    source = np.ones(1 << 23)
    target = np.empty_like(source)
    _, best = timed(lambda: np.copyto(target, source), 20)
    return 2 * source.nbytes / best / 1e9


def hidden(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Pools of the same kind with other seeds: a second against a long run, both forms."""
    from ensgan.metrics import score_pool

    rows = []
    for seed in args.pool_seeds.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pool.npz"
            make = [sys.executable, str(SHARED / "pool.py"), "--seed", seed, "--out", str(path)]
            data = args.pool_data / "pneumoniamnist.npz"
            subprocess.run([*make, "--data", str(data)], check=True, capture_output=True)
            with np.load(path, allow_pickle=False) as pool:
                names = [str(n) for n in pool["names"]]
                scores = score_pool(pool["real"], list(pool["fake"]), names)
        for form in FORMS:
            long = search(
                scores, seconds=args.hidden_reference, seed=100, inter=form, kernel="numpy"
            )
            rows.append(
                {
                    "pool_seed": int(seed),
                    "inter": form,
                    "reference": long.hypervolume,
                    "reference_evaluations": long.trials,
                    "reference_points": len(long),
                    "runs": [front(scores, form, long.hypervolume, s) for s in range(args.seeds)],
                }
            )
    return rows


def front(scores: PoolScores, form: str, known: float | None, seed: int) -> dict[str, Any]:
    cpu = time.process_time()
    found = search(scores, seconds=1.0, seed=seed, inter=form, kernel="numpy")
    cpu = time.process_time() - cpu
    best = known or found.hypervolume

    def at(limit: float) -> float:
        return max((h for s, _, h in found.history if s <= limit), default=0.0) / best

    reached = [s for s, _, h in found.history if h >= 0.9999 * best]
    return {
        "inter": form,
        "seed": seed,
        "of_best_at_0.2s": at(0.2),
        "of_best_at_1s": found.hypervolume / best,
        "seconds_to_99.99": min(reached, default=None),
        "points": len(found),
        "evaluations": found.trials,
        "cpu": cpu,
    }


def peers(
    scores: PoolScores, known: dict[str, float | None], args: argparse.Namespace
) -> list[dict[str, Any]]:
    rows = []
    named = [name for name in args.peers.split(",") if name]
    runs: list[tuple[str, dict[str, Any]]] = [
        (name, {"trials": args.peer_trials}) for name in ("pareto-local", "ensemble", *named)
    ]
    runs += [(name, {"seconds": 1.0}) for name in ("pareto-local", *named)]
    for name, budget in runs:
        found = search(scores, sampler=name, inter="directed", seed=0, **budget)
        best = known["directed"]
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


def scale(args: argparse.Namespace) -> dict[str, Any]:
    """1,000 members × 10,000 points in a process of its own, so that its memory can be read."""
    rows = [in_child(args.scale_seconds, "numpy")]
    if args.scale_reference:
        rows.append(in_child(args.scale_reference, args.reference_kernel))
        rows[0]["of_reference"] = rows[0]["hypervolume"] / rows[1]["hypervolume"]
    return {"members": 1000, "points": 10_000, "runs": rows}


def in_child(seconds: float, kernel: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("bench.py")), "search", "--json"]
    done = subprocess.run(
        [*command, "--scale-child", str(seconds), "--scale-kernel", kernel],
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(json.loads(done.stdout)["child"])


def scale_child(seconds: float, kernel: str) -> dict[str, Any]:
    import resource

    scores = made_up(1000, 10_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu = time.process_time()
    found = search(scores, seconds=seconds, seed=0, kernel=kernel)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "child": {
            "kernel": kernel,
            "seconds": found.seconds,
            "cpu": time.process_time() - cpu,
            "hypervolume": found.hypervolume,
            "points": len(found),
            "evaluations": found.trials,
            "peak_mb": after / 1024,
            "peak_mb_before_search": before / 1024,
            "history": [list(entry) for entry in found.history[::10]],
        }
    }


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")


def show(result: dict[str, Any]) -> None:
    if "child" in result:
        print(json.dumps(result["child"], indent=2))
        return
    print(f"{result['processor']}, load {result['load_before']:.1f}, commit {result['commit']}")
    for row in result.get("speed", ()):
        print(f"\n{row['members']} members × {row['points']} points, million a second (best)")
        for kernel in ("numpy", "numba"):
            if kernel in row:
                cells = [
                    f"{label} {row[kernel][key] / 1e6:.2f} ({row[kernel][key + '_best'] / 1e6:.2f})"
                    for label, key in (
                        ("dense", "dense_per_s"),
                        ("neighbours of 5", "neighbours_of_5_per_s"),
                        ("of 10", "neighbours_of_10_per_s"),
                    )
                ]
                print(f"  {kernel}: " + ", ".join(cells))
    for row in result.get("front", ()):
        print(
            f"{row['inter']} seed {row['seed']}: {row['of_best_at_0.2s']:.6f} at 0.2 s, "
            f"{row['of_best_at_1s']:.6f} at 1 s (cpu {row['cpu']:.2f} s)"
        )
    for row in result.get("hidden", ()):
        least = min(run["of_best_at_1s"] for run in row["runs"])
        print(
            f"pool of seed {row['pool_seed']}, {row['inter']}: at least {least:.6f} at 1 s of "
            f"{row['reference']:.5f} ({row['reference_evaluations']} evaluations)"
        )
    for row in result.get("peers", ()):
        print(
            f"{row['sampler']}: hypervolume {row['hypervolume']:.4f} after {row['evaluations']} "
            f"evaluations, {row['seconds']:.1f} s, smallest ensemble {row['smallest']}"
        )
    for row in result.get("scale", {}).get("runs", ()):
        print(
            f"1,000 × 10,000: hypervolume {row['hypervolume']:.5f} in {row['seconds']:.0f} s "
            f"({row['evaluations']} evaluations, peak {row['peak_mb']:.0f} MB)"
        )
