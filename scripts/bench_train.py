"""Training speed: the shipped step against a plain eager implementation of the same rows.

The baseline, ``plain_gan.py``, has the same parameters and losses, written the usual way.
CPU times are CPU seconds of one thread, which other processes on the machine disturb least.
On a GPU every row is timed as plain, as shipped, in bfloat16 and compiled; images per second are
the real images that the discriminator sees in full steps.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as functional
from plain_gan import make_plain

from ensgan import zoo
from ensgan.train import TrainSettings
from ensgan.train.cost import step_work
from ensgan.train.pace import Steps
from ensgan.train.state import Record
from ensgan.train.training import Training
from ensgan.types import ImageShape, Samples

FIRST_STEP = 1  # step 0 would carry R1's separate step
IMAGES = 4708
FAMILIES = "SNGAN,BigGAN,StyleGAN2"
PATIENCE = 600.0
"""Seconds that trials at once wait for each other to be compiled and warm."""

Figures: TypeAlias = dict[str, Any]


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
    """Mean of several steps; on a GPU they are replayed once they have been captured."""
    advance = stepper(training)
    begin = clock(training.device.type)
    for _ in range(steps):
        if training.step % 16 == 0:
            training.step += 1
        advance.step()
    return (clock(training.device.type) - begin) / steps


@functools.lru_cache(maxsize=2)
def stepper(training: Training) -> Steps:
    """Kept for all timings of a training, so that captures are."""
    return Steps(training, Record("benchmark"))


def figures(training: Training, seconds: dict[str, float], args: argparse.Namespace) -> Figures:
    """Ratio, rates and arithmetic from the seconds of a step by contestant."""
    spec, optimiser = zoo.get(training.spec.name).scaled(args.width), training.optimiser
    updates = optimiser.d_updates_per_step
    work = step_work(spec, ImageShape(1, 32), 2, training.settings)
    flops = sum(work.flops)
    return {
        "batch": training.batch,
        "d_updates": updates,
        "seconds_per_step": seconds,
        "steps_per_second": {label: 1 / value for label, value in seconds.items()},
        "images_per_second": {
            label: training.batch * updates / value for label, value in seconds.items()
        },
        "ratio": seconds["plain"] / seconds["ours"],
        "step_gflops": flops / 1e9,
        "step_kernels": work.kernels,
        "gflops_per_second": flops / 1e9 / seconds["ours"],
    }


def compare(name: str, args: argparse.Namespace) -> Figures:
    """Both on the CPU, timed in turns: what else the machine does then hits both."""
    ours, plain = prepare(name, args), prepare(name, args)
    make_plain(plain, samples_of_noise())
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    contestants = {"ours": ours, "plain": plain}
    for training in contestants.values():
        seconds_of_a_step(training, args.warm_up)
    for _ in range(args.repeats):
        for label, training in contestants.items():
            times[label].append(seconds_of_a_step(training, args.steps))
    return figures(ours, {label: statistics.median(t) for label, t in times.items()}, args)


CONTESTANTS: dict[str, dict[str, Any]] = {
    "plain": {"capture": False, "precision": "tf32"},
    "ours": {"precision": "tf32"},
    "ours_eager": {"precision": "tf32", "capture": False},
    "ours_bf16": {"precision": "bfloat16"},
    "ours_compiled": {"compile": True},
    "ours_bf16_compiled": {"precision": "bfloat16", "compile": True},
}


def compare_apart(
    name: str, args: argparse.Namespace, labels: tuple[str, ...] = tuple(CONTESTANTS)
) -> Figures:
    """One contestant after another, each alone on the GPU, so that peak memory is its own.

    A contestant that fails (no compiler, out of memory) is reported and the others go on; the
    first two must not.
    """
    seconds: dict[str, float] = {}
    peaks: dict[str, int] = {}
    errors: dict[str, str] = {}
    for label in labels:
        try:
            seconds[label], peaks[label] = alone(name, label, args)
        except Exception as error:
            if label in ("plain", "ours"):
                raise
            errors[label] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    result = figures(prepare(name, args), seconds, args)
    best = min(seconds, key=seconds.__getitem__)
    fastest = {"fastest": best, "ratio_fastest": seconds["plain"] / seconds[best]}
    return {**result, **fastest, "peak_bytes": peaks, "errors": errors}


def alone(name: str, label: str, args: argparse.Namespace) -> tuple[float, int]:
    """Median seconds of a step and peak bytes of one contestant."""
    training = prepare(name, args, **CONTESTANTS[label])
    if label == "plain":
        make_plain(training, samples_of_noise())
    gpu = training.device.type == "cuda"
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds_of_a_step(training, args.warm_up)
    times = [seconds_of_a_step(training, args.steps) for _ in range(args.repeats)]
    return statistics.median(times), torch.cuda.max_memory_allocated() if gpu else 0


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
    found = {}
    for mark, dtype in {"": torch.float32, "bf16_": torch.bfloat16}.items():
        if mark and device == "cpu":
            continue
        size = 1024 if device == "cpu" else 8192
        left, right = torch.randn(2, size, size, device=device, dtype=dtype)
        channels, batch = 256, 16 if device == "cpu" else 256
        images = torch.randn(batch, channels, 16, 16, device=device, dtype=dtype)
        kernel = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
        conv_flops = 2.0 * batch * 256 * 9 * channels**2
        multiply = functools.partial(torch.matmul, left, right)
        convolve = functools.partial(functional.conv2d, images, kernel, padding=1)
        with torch.inference_mode():
            found[f"{mark}gemm_gflops_per_second"] = rate(multiply, 2.0 * size**3, device)
            found[f"{mark}conv_gflops_per_second"] = rate(convolve, conv_flops, device)
    return found


def _trial(name: str, args: argparse.Namespace, barrier: Any, results: Any) -> None:
    """One of several trainings at once: images per second, or why there are none."""
    try:
        training = prepare(name, args, **CONTESTANTS[args.concurrent_as])
        seconds_of_a_step(training, args.warm_up)
        barrier.wait(PATIENCE)
        seconds = seconds_of_a_step(training, args.steps)
        results.put(training.batch * training.optimiser.d_updates_per_step / seconds)
    except Exception as error:  # out of memory, say: the others must not wait for this one
        barrier.abort()
        results.put(f"{type(error).__name__}: {error}")


def concurrency(name: str, args: argparse.Namespace) -> dict[str, float | str]:
    """Real images per second in all of 1, 2, 4, 8 processes on one GPU."""
    context = multiprocessing.get_context("spawn")
    totals: dict[str, float | str] = {}
    for trials in (1, 2, 4, 8):
        barrier, results = context.Barrier(trials), context.Queue()
        jobs = [
            context.Process(target=_trial, args=(name, args, barrier, results))
            for _ in range(trials)
        ]
        for job in jobs:
            job.start()
        found = [results.get(timeout=2 * PATIENCE) for _ in jobs]
        for job in jobs:
            job.join()
        failed = [value for value in found if isinstance(value, str)]
        totals[str(trials)] = failed[0] if failed else sum(found)
    return totals


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rows", help="comma list, or 'all'; default: three on a CPU, all on a GPU"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument(
        "--d-updates", type=int, help="0: the row's own number; default: 1 on a CPU, 0 on a GPU"
    )
    parser.add_argument("--steps", type=int, help="in one timing; default: 1, on a GPU 20")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warm-up", type=int, help="steps; default: 1, on a GPU 5")
    parser.add_argument(
        "--concurrency",
        metavar="ROWS",
        help="on a GPU: rows of which 1, 2, 4, 8 train at once; default: three, 'none': none",
    )
    parser.add_argument("--concurrent-as", choices=list(CONTESTANTS)[1:], default="ours_bf16")


def fill_in(args: argparse.Namespace) -> None:
    """Defaults that depend on the device."""
    cpu = args.device == "cpu"
    defaults = {
        "rows": FAMILIES if cpu else "all",
        "d_updates": 1 if cpu else 0,
        "steps": 1 if cpu else 20,
        "warm_up": 1 if cpu else 5,
        "concurrency": "none" if cpu else FAMILIES,
    }
    for key, value in defaults.items():
        if getattr(args, key) is None:
            setattr(args, key, value)
    args.d_updates = args.d_updates or None


def run(args: argparse.Namespace) -> dict[str, Any]:
    fill_in(args)
    on_cpu = args.device == "cpu"
    if on_cpu:
        torch.set_num_threads(1)
    elif not torch.cuda.is_available():
        print(f"--device {args.device} needs an NVIDIA GPU, and torch sees none", file=sys.stderr)
        raise SystemExit(2)
    names = list(zoo.names()) if args.rows == "all" else args.rows.split(",")
    crowded = [] if on_cpu or args.concurrency == "none" else args.concurrency.split(",")
    reached = limits(args.device)
    rows = {}
    for name in names:
        rows[name] = compare(name, args) if on_cpu else compare_apart(name, args)
        rows[name]["share_of_conv_rate"] = (
            rows[name]["gflops_per_second"] / reached["conv_gflops_per_second"]
        )
        print(f"{name}: {rows[name]['ratio']:.2f} times plain", file=sys.stderr)
    for name in crowded:
        rows.setdefault(name, {})["images_per_second_by_trials"] = concurrency(name, args)
    gpu = None if on_cpu else torch.cuda.get_device_name()
    return {
        "device": args.device,
        "gpu": gpu,
        "width": args.width,
        "limits": reached,
        "rows": rows,
    }


def show(result: dict[str, Any]) -> None:
    limits_reached = ", ".join(f"{name} {value:.0f}" for name, value in result["limits"].items())
    device = result["gpu"] or result["device"]
    print(f"device {device}, width {result['width']}; {limits_reached}")
    print(f"{'GAN':20}{'plain s':>10}{'ours s':>10}{'ratio':>8}{'GFLOP':>9}{'of conv rate':>14}")
    for name, row in result["rows"].items():
        if "seconds_per_step" in row:
            seconds = row["seconds_per_step"]
            print(
                f"{name:20}{seconds['plain']:10.3f}{seconds['ours']:10.3f}{row['ratio']:8.2f}"
                f"{row['step_gflops']:9.1f}{row['share_of_conv_rate']:14.2f}"
            )
    for name, row in result["rows"].items():
        if "peak_bytes" in row:
            rates = ", ".join(f"{label} {v:.0f}" for label, v in row["images_per_second"].items())
            print(f"{name}: images/s {rates}; peak {row['peak_bytes']['ours'] / 1e9:.2f} GB")
            print("".join(f"  {label}: {why}\n" for label, why in row["errors"].items()), end="")
        if "images_per_second_by_trials" in row:
            print(f"{name}: images/s by trials at once {row['images_per_second_by_trials']}")
