"""Peak memory of training each row at full width, beside the estimate that ``ensgan zoo`` prints.

Each row takes its first step (one discriminator and one generator update, and R1 where the row has
it) in a process of its own on the CPU. What the process held before the networks were made is
taken off its peak resident memory (Linux only: read from /proc).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from pathlib import Path
from typing import Any

from ensgan import zoo
from ensgan.types import ImageShape
from ensgan.zoo.footprint import footprint

MEBI = 2**20


def resident(kind: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` the most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("peak memory is read from /proc/self/status, which this system lacks")


def forget_peak() -> None:
    """Start a new ``VmHWM``: importing torch takes more for a moment than a narrow training."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(name: str, batch: int, width: float, results: Any) -> None:
    import torch
    from bench_train import prepare

    from ensgan.train.state import Record
    from ensgan.train.training import full_step

    torch.set_num_threads(1)
    args = argparse.Namespace(batch=batch, d_updates=1, device="cpu", width=width)
    # Loads the libraries' own memory: a small product and convolution.
    torch.nn.functional.conv2d(torch.ones(1, 8, 8, 8), torch.ones(8, 8, 3, 3)).sum()
    before = resident("VmRSS")
    forget_peak()
    training = prepare(name, args)
    training.step = 0  # the step that R1 follows, which keeps more than any other
    full_step(training, Record(name))
    results.put(resident("VmHWM") - before)


def peak_bytes(name: str, batch: int, width: float) -> int:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    job = context.Process(target=measure, args=(name, batch, width, results))
    job.start()
    found = results.get()
    job.join()
    return int(found)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", default="all", help="comma list, or 'all'")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=float, default=1.0)


def run(args: argparse.Namespace) -> dict[str, Any]:
    names = list(zoo.names()) if args.rows == "all" else args.rows.split(",")
    rows = {}
    for name in names:
        spec = zoo.get(name).scaled(args.width)
        estimate = footprint(spec, ImageShape(1, 32), 2, batch=args.batch).training_bytes
        peak = peak_bytes(name, args.batch, args.width)
        rows[name] = {"peak_bytes": peak, "estimate_bytes": estimate, "ratio": peak / estimate}
        print(f"{name}: {peak / MEBI:.0f} MiB", file=sys.stderr)
    return {"batch": args.batch, "width": args.width, "rows": rows}


def show(result: dict[str, Any]) -> None:
    print(f"one step at batch {result['batch']}, width {result['width']}, CPU, MiB")
    print(f"{'GAN':20}{'peak':>8}{'estimate':>10}{'ratio':>8}")
    for name, row in result["rows"].items():
        peak, estimate = row["peak_bytes"] / MEBI, row["estimate_bytes"] / MEBI
        print(f"{name:20}{peak:8.0f}{estimate:10.0f}{row['ratio']:8.2f}")
