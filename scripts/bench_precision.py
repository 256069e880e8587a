"""Whether bfloat16 hurts: the same trainings in float32 and in bfloat16, every member scored.

The rows are those of the budget sweep, at nano width, with the settings of
``sweeps/pneumoniamnist-nano-all.yaml``. Seeds come one after another, and in each the rows; what
the time allows is in the result. With ``--keep FILE`` the next run goes on where this one ended.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_averages import data_and_scores
from scipy.stats import t

from ensgan import zoo
from ensgan.files import read_json, write_json
from ensgan.train import TrainSettings, train_gan
from ensgan.types import step_of

ROWS = "SNGAN,ACGAN-Mod-TAC,BigGAN-ADA,MHGAN,ContraGAN,ReACGAN-DiffAug,StyleGAN2,StyleGAN2-ADA"
PRECISIONS = ("float32", "bfloat16")
SCORES = ("Intra-d", "capped Intra-d", "Fréchet distance")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", default=ROWS, help="GANs, separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dataset", default="pneumoniamnist")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=float, default=1 / 16)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--snapshots", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=1e6, help="no training is begun after")
    parser.add_argument("--keep", type=Path, help="write members there, and begin with those in it")


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    free = {"minutes", "keep", "seeds", "rows", "data_dir"}
    settings = {key: str(value) for key, value in vars(args).items() if key not in free}
    found: list[dict[str, Any]] = []
    if args.keep and args.keep.exists():
        kept = read_json(args.keep)
        if kept["settings"] != settings:
            raise SystemExit(f"{args.keep} was made with other settings: {kept['settings']}")
        found = kept["members"]
    done = {(row["gan"], row["seed"], row["precision"]) for row in found}
    dataset, scored = data_and_scores(args.dataset, args.data_dir, args.images)
    until = time.monotonic() + 60 * args.minutes
    for seed in range(args.seeds):
        for name in args.rows.split(","):
            for precision in PRECISIONS:
                if (name, seed, precision) in done or time.monotonic() > until:
                    continue
                found += members(args, dataset, scored, name, seed, precision)
                if args.keep:
                    write_json(args.keep, {"settings": settings, "members": found})
    return {"settings": settings, "members": found, "differences": differences(found)}


def members(
    args: argparse.Namespace, dataset: Any, scored: Any, name: str, seed: int, precision: Any
) -> list[dict[str, Any]]:
    """Every member of one training, scored."""
    settings = TrainSettings(
        args.steps,
        args.snapshots,
        seed,
        batch=args.batch,
        d_updates=1,
        learning_rate=2.0,
        fake_labels="training",
        device=args.device,
        precision=precision,
    )
    spec, shape = zoo.get(name).scaled(args.width), dataset.train.shape
    classes = dataset.num_classes
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        for snapshot in train_gan(spec, dataset.train, classes, settings, Path(folder)):
            took = time.process_time() - begin
            generator = zoo.load_generator(snapshot.path, spec, shape, classes)
            facts = {"step": step_of(snapshot.member), "seconds": took}
            row = {"gan": name, "seed": seed, "precision": precision, **facts}
            rows.append({**row, **scored(generator)})
            begin = time.process_time()
    return rows


def differences(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """bfloat16 less float32 at the last step, paired by GAN and seed, with a 95 % t interval.

    Beside it the standard deviation that seeds alone make in float32, the mean over the GANs.
    """
    if not found:
        return []
    last = max(row["step"] for row in found)
    ends = [row for row in found if row["step"] == last]
    rows = []
    for score in SCORES:
        values = {(r["gan"], r["seed"], r["precision"]): r[score] for r in ends}
        pairs = [
            values[gan, seed, "bfloat16"] - value
            for (gan, seed, precision), value in values.items()
            if precision == "float32" and (gan, seed, "bfloat16") in values
        ]
        by_gan: dict[str, list[float]] = defaultdict(list)
        for row in ends:
            if row["precision"] == "float32":
                by_gan[row["gan"]].append(row[score])
        spread = [float(np.std(seeds, ddof=1)) for seeds in by_gan.values() if len(seeds) > 1]
        half = np.inf
        if len(pairs) > 1:
            half = float(t.ppf(0.975, len(pairs) - 1) * np.std(pairs, ddof=1) / len(pairs) ** 0.5)
        mean = float(np.mean(pairs)) if pairs else 0.0
        row = {"score": score, "pairs": len(pairs), "difference": mean, "±": half}
        rows.append({**row, "spread of seeds": float(np.mean(spread)) if spread else None})
    return rows


def show(result: dict[str, Any]) -> None:
    scores: dict[tuple[str, int], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in result["members"]:
        text = f"{row['Intra-d']:.3f} ({row['Fréchet distance']:.2f})"
        scores[row["gan"], row["step"]][row["precision"]].append(text)
    for (gan, step), by_precision in scores.items():
        shown = "   ".join(f"{name} {', '.join(each)}" for name, each in by_precision.items())
        print(f"{gan:16} step {step:6}   {shown}")
    for row in result["differences"]:
        print(
            f"{row['score']}: bfloat16 less float32 {row['difference']:+.3f} ± {row['±']:.3f} "
            f"({row['pairs']} pairs; seeds alone spread by {row['spread of seeds'] or 0:.3f})"
        )
