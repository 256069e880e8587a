"""Scoring: ensgan against the bare matrix product and against prdc, in one run.

Wide features are random: either independent normal values (the hardest case for exactness, all
distances nearly equal) or, with --features latent, 2048 values driven by 32 latent ones.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ensgan import metrics
from ensgan.metrics.choice import make_backend
from ensgan.metrics.features import Frame, robust_centre
from ensgan.metrics.hits import PlacedSet, pair_hits
from ensgan.metrics.prdc import BLOCK_ENTRIES
from ensgan.metrics.radii import measure_balls


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--points", type=int, default=4708)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--features", choices=("normal", "latent"), default="normal")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-repeats", type=int, default=2)
    parser.add_argument("--pool", type=Path, help="features.npz to score whole (pool110.npz)")
    parser.add_argument("--members", type=int, help="only that many members of the pool")
    parser.add_argument("--peer-pairs", type=int, default=60)
    parser.add_argument("--backends", nargs="+", default=["torch", "faiss"])
    parser.add_argument("--skip-wide", action="store_true")


def seconds(action: Callable[[], Any], repeats: int) -> float:
    """Median seconds after one warm-up."""
    if repeats > 1:
        action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def features(kind: str, points: int, dim: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "normal":
        return rng.standard_normal((points, dim), dtype=np.float32)
    mix = np.random.default_rng(99).standard_normal((32, dim), dtype=np.float32)
    latent = rng.standard_normal((points, 32), dtype=np.float32)
    noise = rng.standard_normal((points, dim), dtype=np.float32)
    return np.maximum(latent @ mix + 0.5 * noise, 0) + 0.3


def peer(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    from prdc import compute_prdc

    with contextlib.redirect_stdout(io.StringIO()):
        return compute_prdc(real, fake, k)


def wide(args: argparse.Namespace) -> dict[str, Any]:
    k = 5
    a, b = (features(args.features, args.points, args.dim, seed) for seed in (0, 1))
    first, second = torch.from_numpy(a), torch.from_numpy(b)
    out = torch.empty(len(a), len(b))
    product = seconds(lambda: torch.mm(first, second.T, out=out), args.repeats)
    result: dict[str, Any] = {
        "points": args.points,
        "dim": args.dim,
        "features": args.features,
        "matmul_s": product,
    }
    for name in args.backends:
        backend = make_backend(name)
        centre = robust_centre(a)
        balls = [measure_balls(each, k, backend, centre=centre) for each in (a, b)]
        frame = Frame.spanning(centre, max(each.deviation for each in balls))

        def fresh(
            balls: list[Any] = balls, frame: Frame = frame, backend: Any = backend
        ) -> tuple[PlacedSet, PlacedSet]:
            one, two = zip((a, b), balls, strict=True)
            return PlacedSet(*one, frame, backend), PlacedSet(*two, frame, backend)

        kept = fresh()
        pair = seconds(lambda kept=kept: pair_hits(*kept, BLOCK_ENTRIES), args.repeats)
        cold = seconds(lambda fresh=fresh: pair_hits(*fresh(), BLOCK_ENTRIES), args.repeats)
        alone = seconds(lambda name=name: metrics.prdc(a, b, k, backend=name), args.repeats)
        result[name] = {"pair_s": pair, "pair_with_placing_s": cold, "prdc_s": alone}
    if args.peer_repeats:
        theirs = peer(a, b, k)
        ours = metrics.prdc(a, b, k)
        result["largest_difference_from_peer"] = max(
            abs(theirs[name] - getattr(ours, name)) for name in theirs
        )
        result["peer_prdc_s"] = seconds(lambda: peer(a, b, k), args.peer_repeats)
        fastest = result[args.backends[0]]
        result["ratios"] = {
            "pair_over_matmul": fastest["pair_s"] / product,
            "two_peer_calls_over_pair": 2 * result["peer_prdc_s"] / fastest["pair_s"],
            "peer_over_prdc": result["peer_prdc_s"] / fastest["prdc_s"],
            "prdc_over_three_matmuls": fastest["prdc_s"] / (3 * product),
        }
    return result


def whole_pool(args: argparse.Namespace) -> dict[str, Any]:
    with np.load(args.pool, allow_pickle=False) as arrays:
        real, fake = arrays["real"], arrays["fake"][: args.members]
        names = [str(name) for name in arrays["names"]][: args.members]
    times = {
        name: seconds(
            lambda name=name: metrics.score_pool(real, list(fake), names, backend=name),
            1,
        )
        for name in args.backends
    }
    m = len(fake)
    rng = np.random.default_rng(0)
    pairs = [rng.choice(m, 2, replace=False) for _ in range(args.peer_pairs)]
    start = time.perf_counter()
    for g, h in pairs:
        peer(fake[g], fake[h], 5)
        peer(fake[h], fake[g], 5)
    both_ways = (time.perf_counter() - start) / len(pairs)
    # Both directions of every pair, and one direction against the real points.
    extrapolated = both_ways * (m * (m - 1) / 2 + m / 2)
    return {
        "shape": list(fake.shape),
        "seconds": times,
        "peer_pairs_measured": len(pairs),
        "peer_s_extrapolated": extrapolated,
        "ratio": extrapolated / times[args.backends[0]],
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
    }
    if not args.skip_wide:
        result["wide"] = wide(args)
    if args.pool:
        result["pool"] = whole_pool(args)
    result["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    result["load_after"] = os.getloadavg()[0]
    return result


def show(result: dict[str, Any], indent: str = "") -> None:
    for name, value in result.items():
        if isinstance(value, dict):
            print(f"{indent}{name}")
            show(value, indent + "  ")
        else:
            print(f"{indent}{name:32} {value:.4g}" if isinstance(value, float) else
                  f"{indent}{name:32} {value}")  # fmt: skip
