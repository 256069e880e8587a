"""Evaluations a second of the exact evaluator, by kernel, and the memory bandwidth beside them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ensgan.errors import InputError
from ensgan.search import Evaluator
from ensgan.types import PoolScores

AUTHORS_TRIAL_SECONDS = 0.69  # stack and recompute all distances, 110 members, quiet core
KERNELS = ("numpy", "numba")


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and smallest seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), min(seconds)


def speed(scores: PoolScores, repeats: int) -> dict[str, Any]:
    """Both kernels on one pool; what could not be measured says why under ``not_measured``."""
    words = (scores.n_real + 63) // 64
    groups = (len(scores) + 7) // 8
    blocks = (len(scores) + 15) // 16
    result: dict[str, Any] = {
        "members": len(scores),
        "points": scores.n_real,
        "bytes_per_dense_evaluation": {
            "masks": groups * words * 8,
            "pair_table": blocks * (blocks + 1) * 16 * 8,
        },
        "bytes_per_swap": words * 8,
        "not_measured": {},
    }
    for kernel in KERNELS:
        try:
            evaluator = Evaluator(scores, kernel=kernel)
        except InputError as error:
            result["not_measured"][kernel] = str(error)
            continue
        result[kernel] = one_kernel(evaluator, repeats)
    return result


def one_kernel(evaluator: Evaluator, repeats: int) -> dict[str, float]:
    random = np.random.default_rng(0)
    dense = random.random((1000, len(evaluator))) < 0.5
    evaluator(dense)
    median, best = timed(lambda: evaluator(dense), repeats)
    row = {"dense_per_s": 1000 / median, "dense_per_s_best": 1000 / best}
    row["times_authors_objective"] = row["dense_per_s"] * AUTHORS_TRIAL_SECONDS
    for size in (5, 10):
        members = sorted(random.choice(len(evaluator), size, replace=False).tolist())
        count = evaluator.neighbours(members).values.intra_d.size
        median, best = timed(lambda m=members: evaluator.neighbours(m), 3 * repeats)
        row |= {
            f"neighbours_of_{size}_per_s": count / median,
            f"neighbours_of_{size}_per_s_best": count / best,
        }
    return row


def copy_bandwidth() -> float:
    """Bytes read and written a second by one core copying 64 MB, in GB."""
    source = np.ones(1 << 23)
    target = np.empty_like(source)
    _, best = timed(lambda: np.copyto(target, source), 20)
    return 2 * source.nbytes / best / 1e9


def show_speed(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(f"\n{row['members']} members × {row['points']} points, million a second (best)")
        for kernel in KERNELS:
            if kernel not in row:
                print(f"  {kernel}: not measured, {row['not_measured'][kernel]}")
                continue
            cells = [
                f"{label} {row[kernel][key] / 1e6:.2f} ({row[kernel][key + '_best'] / 1e6:.2f})"
                for label, key in (
                    ("dense", "dense_per_s"),
                    ("neighbours of 5", "neighbours_of_5_per_s"),
                    ("of 10", "neighbours_of_10_per_s"),
                )
            ]
            print(f"  {kernel}: " + ", ".join(cells))
