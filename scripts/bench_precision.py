"""Whether bfloat16 hurts: the same trainings in float32 and in bfloat16, every member scored.

The rows are those of the budget sweep, at nano width, with the settings of
``sweeps/pneumoniamnist-nano-all.yaml``. Seeds come one after another, and in each the rows; what
the time allows is in the result.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from bench_averages import data_and_scores

from ensgan import zoo
from ensgan.train import TrainSettings, train_gan

ROWS = "SNGAN,ACGAN-Mod-TAC,BigGAN-ADA,MHGAN,ContraGAN,ReACGAN-DiffAug,StyleGAN2,StyleGAN2-ADA"
PRECISIONS = ("float32", "bfloat16")


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


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    dataset, scored = data_and_scores(args.dataset, args.data_dir, args.images)
    until = time.monotonic() + 60 * args.minutes
    found: list[dict[str, Any]] = []
    for seed in range(args.seeds):
        for name in args.rows.split(","):
            if time.monotonic() > until:
                break
            for precision in PRECISIONS:
                settings = TrainSettings(
                    args.steps,
                    args.snapshots,
                    seed,
                    batch=args.batch,
                    d_updates=1,
                    learning_rate=2.0,
                    fake_labels="training",
                    device=args.device,
                    precision=precision,  # type: ignore[arg-type]
                )
                spec, shape = zoo.get(name).scaled(args.width), dataset.train.shape
                with tempfile.TemporaryDirectory() as folder:
                    begin, classes = time.process_time(), dataset.num_classes
                    for snapshot in train_gan(spec, dataset.train, classes, settings, Path(folder)):
                        took = time.process_time() - begin
                        generator = zoo.load_generator(snapshot.path, spec, shape, classes)
                        facts = {"step": snapshot.member.step, "seconds": took}
                        row = {"gan": name, "seed": seed, "precision": precision, **facts}
                        found.append({**row, **scored(generator)})
                        begin = time.process_time()
    return {"settings": {k: str(v) for k, v in vars(args).items()}, "members": found}


def show(result: dict[str, Any]) -> None:
    scores: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in result["members"]:
        scores[row["gan"], row["step"]][row["precision"]].append(row["Intra-d"])
    for (gan, step), by_precision in scores.items():
        shown = "   ".join(
            f"{precision} {mean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"
            for precision, values in by_precision.items()
        )
        print(f"{gan:16} step {step:6}   {shown}")
