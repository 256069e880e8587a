"""Training speed: the shipped step against a plain eager implementation of the same rows.

The baseline, ``plain_gan.py``, has the same parameters and losses, written the usual way.
CPU times are CPU seconds of one thread, which other processes on the machine disturb least.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from plain_gan import make_plain

from ensgan import zoo
from ensgan.train import TrainSettings
from ensgan.train.record import Record
from ensgan.train.step import full_step
from ensgan.train.training import Training
from ensgan.types import ImageShape, Samples
from ensgan.zoo.footprint import step_flops

FIRST_STEP = 1  # step 0 would carry R1's separate step
IMAGES = 4708


def samples_of_noise() -> Samples:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, 32, 32), dtype=np.uint8)
    return Samples(images, random.integers(0, 2, IMAGES))


def prepare(name: str, args: argparse.Namespace, **changes: Any) -> Training:
    settings = TrainSettings(
        1000, 1, 0, batch=args.batch, d_updates=args.d_updates, device=args.device, **changes
    )
    training = Training(zoo.get(name).scaled(args.width), samples_of_noise(), 2, settings)
    training.step = FIRST_STEP
    return training


def clock(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of_a_step(training: Training, steps: int) -> float:
    record = Record("benchmark")
    begin = clock(training.device.type)
    for _ in range(steps):
        if training.step % 16 == 0:
            training.step += 1
        full_step(training, record)
        record.end_step(training.step)
    return (clock(training.device.type) - begin) / steps


def compare(name: str, args: argparse.Namespace) -> dict[str, Any]:
    ours, plain = prepare(name, args), prepare(name, args)
    make_plain(plain, samples_of_noise())
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    contestants = [("ours", ours), ("plain", plain)]
    if args.device != "cpu":
        contestants.append(("ours_bf16", prepare(name, args, precision="bfloat16")))
        contestants.append(("ours_compiled", prepare(name, args, compile=True)))
    for label, training in contestants:
        for _ in range(args.warm_up):
            seconds_of_a_step(training, 1)
        times.setdefault(label, [])
    for _ in range(args.repeats):
        for label, training in contestants:
            times[label].append(seconds_of_a_step(training, args.steps))
    seconds = {label: statistics.median(values) for label, values in times.items()}
    flops = step_flops(
        zoo.get(name).scaled(args.width),
        ImageShape(1, 32),
        2,
        batch=ours.batch,
        d_updates=ours.optimiser.d_updates_per_step,
    )
    result = {
        "batch": ours.batch,
        "d_updates": ours.optimiser.d_updates_per_step,
        "seconds_per_step": seconds,
        "ratio": seconds["plain"] / seconds["ours"],
        "step_gflops": flops / 1e9,
        "gflops_per_second": flops / 1e9 / seconds["ours"],
    }
    if args.device != "cpu":
        result["peak_bytes"] = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    return result


def rate(work: Callable[[], object], flops: float, device: str, least: float = 1.0) -> float:
    """GFLOP/s of an operation, best of at least three runs and ``least`` seconds."""
    best, spent, runs = float("inf"), 0.0, 0
    work()
    while spent < least or runs < 3:
        begin = clock(device)
        work()
        elapsed = clock(device) - begin
        best, spent, runs = min(best, elapsed), spent + elapsed, runs + 1
    return flops / best / 1e9


def limits(device: str) -> dict[str, float]:
    """What the machine reaches on a matrix product and on a 3×3 convolution."""
    size = 1024 if device == "cpu" else 8192
    left, right = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    channels, batch = 256, 16 if device == "cpu" else 256
    images = torch.randn(batch, channels, 16, 16, device=device)
    kernel = torch.randn(channels, channels, 3, 3, device=device)
    conv_flops = 2.0 * batch * 256 * 9 * channels**2
    with torch.inference_mode():
        return {
            "gemm_gflops_per_second": rate(lambda: left @ right, 2.0 * size**3, device),
            "conv_gflops_per_second": rate(
                lambda: functional.conv2d(images, kernel, padding=1), conv_flops, device
            ),
        }


def _trial(name: str, args: argparse.Namespace, barrier: Any, results: Any) -> None:
    training = prepare(name, args)
    seconds_of_a_step(training, 5)
    barrier.wait()
    results.put(training.batch / seconds_of_a_step(training, args.steps))


def concurrency(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Fakes-per-generator-update images/s in all of 1, 2, 4, 8 processes on one GPU."""
    context = multiprocessing.get_context("spawn")
    totals = {}
    for trials in (1, 2, 4, 8):
        barrier, results = context.Barrier(trials), context.Queue()
        jobs = [
            context.Process(target=_trial, args=(name, args, barrier, results))
            for _ in range(trials)
        ]
        for job in jobs:
            job.start()
        totals[str(trials)] = sum(results.get() for _ in jobs)
        for job in jobs:
            job.join()
    return totals


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", default="SNGAN,BigGAN,StyleGAN2", help="comma list, or 'all'")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--d-updates", type=int, default=1, help="0: the row's own number")
    parser.add_argument("--steps", type=int, default=1, help="steps in one timing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--concurrency", action="store_true", help="also 1, 2, 4, 8 trials at once")


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.device == "cpu":
        torch.set_num_threads(1)
    elif not torch.cuda.is_available():
        raise SystemExit(f"--device {args.device} needs an NVIDIA GPU, and torch sees none")
    args.d_updates = args.d_updates or None
    names = list(zoo.names()) if args.rows == "all" else args.rows.split(",")
    reached = limits(args.device)
    rows = {}
    for name in names:
        rows[name] = compare(name, args)
        rows[name]["share_of_conv_rate"] = (
            rows[name]["gflops_per_second"] / reached["conv_gflops_per_second"]
        )
        if args.concurrency and args.device != "cpu":
            rows[name]["images_per_second_by_trials"] = concurrency(name, args)
    return {"device": args.device, "width": args.width, "limits": reached, "rows": rows}


def show(result: dict[str, Any]) -> None:
    limits_reached = ", ".join(f"{name} {value:.0f}" for name, value in result["limits"].items())
    print(f"device {result['device']}, width {result['width']}; {limits_reached}")
    print(f"{'GAN':20}{'plain s':>10}{'ours s':>10}{'ratio':>8}{'GFLOP':>9}{'of conv rate':>14}")
    for name, row in result["rows"].items():
        seconds = row["seconds_per_step"]
        print(
            f"{name:20}{seconds['plain']:10.3f}{seconds['ours']:10.3f}{row['ratio']:8.2f}"
            f"{row['step_gflops']:9.1f}{row['share_of_conv_rate']:14.2f}"
        )
