"""Scoring: ensgan against the bare matrix product and against prdc, in one run.

Parts: ``wide`` (one pair and one set, against the product and the peer), ``pool`` (a whole pool
against the peer; where --pool is given), ``growth`` (with members, points and dimensions),
``memory`` (peak of 110 x 4,708 x 2,048), ``paper`` (all of such a pool; for a GPU), ``online``
(scoring each snapshot beside its training), ``classes`` (within each class against joint) and
``precision`` (what TF32 and bfloat16 features change; with --images).

Wide features are random: either independent normal values (the hardest case for exactness, all
distances nearly equal) or, with --features latent, 2048 values driven by 32 latent ones. Ours and
the product alternate; wall seconds and CPU seconds (of all threads) are medians. On a machine that
others use, believe the CPU ratios with OMP_NUM_THREADS=1: waiting threads burn time.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ensgan import metrics
from ensgan.metrics.ball_counts import HostCounts, PlacedSet
from ensgan.metrics.device_pairs import DeviceCounts
from ensgan.metrics.device_points import CardMemory
from ensgan.metrics.features import Frame, robust_centre
from ensgan.metrics.knn import make_backend
from ensgan.metrics.radii import measure_balls

PARTS = ("wide", "pool", "growth", "memory", "paper", "online", "classes", "precision")
NANO = Path(__file__).resolve().parents[1] / "sweeps" / "pneumoniamnist-nano-all.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", default="wide,pool", help="of " + ", ".join(PARTS))
    parser.add_argument("--points", type=int, default=4708)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--features", choices=("normal", "latent"), default="normal")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-repeats", type=int, default=2)
    parser.add_argument("--pool", type=Path, help="features.npz to score whole (pool110.npz)")
    parser.add_argument("--members", type=int, help="that many: of --pool, or of the memory pool")
    parser.add_argument("--peer-pairs", type=int, default=60)
    parser.add_argument("--backends", nargs="+", default=["torch", "faiss"])
    memory = parser.add_argument_group("memory")
    memory.add_argument("--budget", type=float, default=2.0, help="GB, as 'ensgan score --memory'")
    memory.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    memory.add_argument("--different", type=int, default=15, help="members that are no copies")
    memory.add_argument("--columns", type=int, default=2, help="sets that pass through the block")
    memory.add_argument("--folder", type=Path, help="where the features are written meanwhile")
    online = parser.add_argument_group("online")
    online.add_argument("--sweep", type=Path, default=NANO, help="sweep file")
    online.add_argument("--rows", default="SNGAN,BigGAN,StyleGAN2", help="its GANs to train")
    online.add_argument("--set", action="append", default=[], dest="settings")
    online.add_argument("--updates", type=int, default=0, help="fewer updates than the sweep's")
    online.add_argument("--data-dir", type=Path, help="where data sets lie")
    parser.add_argument("--images", type=Path, help="for precision: npz of members' images")
    parser.add_argument("--most-images", type=int, help="for precision: of each member")
    parser.add_argument("--extractors", nargs="+", default=["medical", "resnet50"])
    online.add_argument("--records", type=Path, help="a sweep that ran: STORAGE/sweeps/NAME")


def seconds(repeats: int, **actions: Callable[[], Any]) -> dict[str, float]:
    """Medians of each action, one after another in every repeat, after one warm-up."""
    if repeats > 1:
        for action in actions.values():
            action()
    wall: dict[str, list[float]] = {name: [] for name in actions}
    cpu: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            start, begin = time.perf_counter(), time.process_time()
            action()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - begin)
    return {
        **{f"{name}_s": statistics.median(times) for name, times in wall.items()},
        **{f"{name}_cpu_s": statistics.median(times) for name, times in cpu.items()},
    }


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


def prepared(a: np.ndarray, b: np.ndarray, k: int, name: str) -> Callable[[], Any]:
    """One pair, both directions, radii given, its points placed: what a pool does 6,105 times."""
    backend = make_backend(name)
    centre = robust_centre(a)
    balls = [measure_balls(each, k, backend, centre) for each in (a, b)]
    frame = Frame.spanning(centre, max(each.deviation for each in balls))
    kept = [PlacedSet(*each, frame, backend) for each in zip((a, b), balls, strict=True)]
    counts: HostCounts | DeviceCounts = HostCounts()
    if backend.card is not None:
        counts = DeviceCounts(frame, CardMemory(backend.card, 2 << 30, print), HostCounts())
    return lambda: list(counts.count(kept[:1], kept[1]))


def wide(args: argparse.Namespace) -> dict[str, Any]:
    k = 5
    a, b = (features(args.features, args.points, args.dim, seed) for seed in (0, 1))
    first, second = torch.from_numpy(a), torch.from_numpy(b)
    out = torch.empty(len(a), len(b))
    result: dict[str, Any] = {
        "points": args.points,
        "dim": args.dim,
        "features": args.features,
    }
    for name in args.backends:
        times = result[name] = seconds(
            args.repeats,
            matmul=lambda: torch.mm(first, second.T, out=out),
            pair=prepared(a, b, k, name),
            prdc=lambda name=name: metrics.prdc(a, b, k, backend=name),
        )
        for kind in ("", "_cpu"):
            product = times[f"matmul{kind}_s"]
            times[f"pair_over_matmul{kind}"] = times[f"pair{kind}_s"] / product
            times[f"prdc_over_three_matmuls{kind}"] = times[f"prdc{kind}_s"] / (3 * product)
    if args.peer_repeats:
        theirs = peer(a, b, k)
        ours = metrics.prdc(a, b, k)
        result["largest_difference_from_peer"] = max(
            abs(theirs[name] - getattr(ours, name)) for name in theirs
        )
        found = seconds(args.peer_repeats, peer=lambda: peer(a, b, k))
        fastest = result[args.backends[0]]
        result["peer"] = found
        for kind in ("", "_cpu"):
            result[f"two_peer_calls_over_pair{kind}"] = (
                2 * found[f"peer{kind}_s"] / fastest[f"pair{kind}_s"]
            )
            result[f"peer_over_prdc{kind}"] = found[f"peer{kind}_s"] / fastest[f"prdc{kind}_s"]
    return result


def whole_pool(args: argparse.Namespace) -> dict[str, Any]:
    with np.load(args.pool, allow_pickle=False) as arrays:
        real, fake = arrays["real"], arrays["fake"][: args.members]
        names = [str(name) for name in arrays["names"]][: args.members]
    ours = {
        name: seconds(
            1,
            pool=lambda name=name: metrics.score_pool(real, list(fake), names, backend=name),
        )
        for name in args.backends
    }
    m = len(fake)
    rng = np.random.default_rng(0)
    chosen = [rng.choice(m, 2, replace=False) for _ in range(args.peer_pairs)]

    def pair_by_pair() -> None:
        for g, h in chosen:
            peer(fake[g], fake[h], 5)
            peer(fake[h], fake[g], 5)

    theirs = seconds(1, peer=pair_by_pair)
    result: dict[str, Any] = {
        "shape": list(fake.shape), "ours": ours, "peer_pairs_measured": len(chosen),
    }  # fmt: skip
    # Both directions of every pair, and one direction against the real points.
    scale = (m * (m - 1) / 2 + m / 2) / len(chosen)
    for kind in ("", "_cpu"):
        result[f"peer{kind}_s_extrapolated"] = theirs[f"peer{kind}_s"] * scale
        result[f"ratio{kind}"] = (
            result[f"peer{kind}_s_extrapolated"] / ours[args.backends[0]][f"pool{kind}_s"]
        )
    return result


def growth(args: argparse.Namespace) -> list[dict[str, Any]]:
    """CPU seconds of a whole pool as members, points and dimensions double."""
    rows = []
    base = {"members": 8, "points": 500, "dim": 64}
    for name in (None, *base):
        for factor in (1,) if name is None else (2, 4):
            shape = base if name is None else {**base, name: factor * base[name]}
            sets = [
                features(args.features, shape["points"], shape["dim"], seed)
                for seed in range(shape["members"] + 1)
            ]
            names = [str(index) for index in range(shape["members"])]
            times = seconds(
                3,
                pool=lambda sets=sets, names=names: metrics.score_pool(sets[0], sets[1:], names),
            )
            rows.append({**shape, **times})
    return rows


def memory(args: argparse.Namespace) -> dict[str, Any]:
    from score_memory import peak_memory

    return peak_memory(
        args.members or 110,
        args.points,
        args.dim,
        dtype=args.dtype,
        different=args.different,
        budget=round(args.budget * 2**30),
        columns=args.columns,
        folder=args.folder,
    )


def paper(args: argparse.Namespace) -> dict[str, Any]:
    from score_paper import score_paper

    return score_paper(
        args.members or 110,
        args.points,
        args.dim,
        args.backends,
        partial(features, args.features),
        memory=round(args.budget * 2**30),
    )


def online(args: argparse.Namespace) -> dict[str, Any]:
    from score_online import of_records, of_rows, summarise

    if args.records is not None:
        return summarise(of_records(args.records))
    asked = (args.settings, args.updates, args.data_dir)
    return summarise(of_rows(args.sweep, args.rows.split(","), *asked))


def classes(args: argparse.Namespace) -> dict[str, Any]:
    """Scoring a pool within two classes, one of them a quarter, against scoring it joint."""
    members = args.members or 12
    real, *fakes = (features(args.features, args.points, args.dim, n) for n in range(members + 1))
    labels = (np.arange(args.points) % 4 == 0).astype(np.int64)
    score = partial(metrics.score_pool, real, fakes, [f"G{n}@1" for n in range(members)])
    times = seconds(
        args.repeats,
        joint=score,
        per_class=lambda: score(labels=(labels, [labels] * members)),
    )
    ratio = times["per_class_cpu_s"] / times["joint_cpu_s"]
    return {"members": members, "points": args.points, "dim": args.dim, **times, "ratio": ratio}


def precision(args: argparse.Namespace) -> list[dict[str, Any]]:
    from score_precision import effect

    where = (args.images, args.members or 20, args.most_images, args.data_dir)
    return [effect(name, *where) for name in args.extractors]


def run(args: argparse.Namespace) -> dict[str, Any]:
    parts = args.parts.split(",")
    strange = set(parts) - set(PARTS)
    if strange:
        raise SystemExit(f"--parts {', '.join(sorted(strange))}: name some of {', '.join(PARTS)}")
    result: dict[str, Any] = {"threads": torch.get_num_threads()}
    if "wide" in parts:
        result["wide"] = wide(args)
    if "pool" in parts and args.pool:
        result["pool"] = whole_pool(args)
    for part in (growth, memory, paper, online, classes, precision):
        if part.__name__ in parts:
            result[part.__name__] = part(args)
    result["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    result["load_after"] = os.getloadavg()[0]
    return result


def show(result: dict[str, Any], indent: str = "") -> None:
    from score_memory import show_memory
    from score_online import show_online

    own = {"memory": show_memory, "online": show_online}
    for name, value in result.items():
        if name in own:
            own[name](value)
        elif isinstance(value, dict):
            print(f"{indent}{name}")
            show(value, indent + "  ")
        elif isinstance(value, list):
            for entry in value:
                print(f"{indent}{name}: {entry}")
        else:
            text = f"{value:.4g}" if isinstance(value, float) else value
            print(f"{indent}{name:32} {text}")
