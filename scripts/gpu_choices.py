"""Parts of ``gpu_check`` for what training chooses: cuDNN's algorithms and ``torch.compile``."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from gpu_scoring import Rows, Terms

from ensgan import zoo
from ensgan.train import TrainSettings
from ensgan.train.pace import Steps, pace_together
from ensgan.train.state import Record
from ensgan.train.training import Training
from ensgan.types import Samples

WAYS = {"as expected": False, "tried out": True}
"""How cuDNN's algorithms are chosen."""


def warm_up_and_rate(
    name: str, width: float, device: str, tunes: bool, changes: dict[str, Any]
) -> tuple[float, float, str]:
    """Seconds until steps are captured, steps per second from then on, why none are captured."""
    images = np.random.default_rng(0).integers(0, 256, (1280, 32, 32), dtype=np.uint8)
    reals = Samples(images, np.arange(1280, dtype=np.int64) % 2)
    tiny = {"batch": 4, "d_updates": 1} if device == "cpu" else {}
    chosen = type("Chosen", (TrainSettings,), {"tunes": tunes})
    settings = chosen(3_000, 1, 0, device=device, **(tiny | changes))
    steps: list[Steps] = []

    def make() -> Steps:
        training = Training(zoo.get(name).scaled(width), reals, 2, settings)
        steps.append(Steps(training, Record(name)))
        return steps[0]

    begin, least = time.perf_counter(), 0.0 if device == "cpu" else 1.0
    pace = pace_together(make, 0.0)
    pace(1)
    warm = time.perf_counter() - begin
    return warm, pace_together(lambda: steps[0], least)(1), steps[0].failure or "ok"


def tuning(terms: Terms) -> Rows:
    """First steps and pace with cuDNN's algorithms as it expects them to be best, and tried out.

    In a process each, because cuDNN keeps its choices.
    """
    rows: Rows = []
    cases = ((1 / 4, "bfloat16"), (1.0, "bfloat16"), (1 / 4, "float32"))
    for width, precision in ((1 / 32, "float32"),) if terms.emulated else cases:
        for way, tunes in WAYS.items():
            if time.monotonic() > terms.until:
                return [*rows, {"GAN": "the rest", "result": "not tried: the time is over"}]
            asked = ("SNGAN", width, terms.device, tunes, {"precision": precision})
            if terms.emulated:
                warm, rate, result = warm_up_and_rate(*asked)
            else:
                spawn = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=spawn) as process:
                    warm, rate, result = process.submit(warm_up_and_rate, *asked).result()
            row = {"GAN": "SNGAN", "width": width, "precision": precision, "algorithms": way}
            row["first steps s"] = warm
            rows.append({**row, "steps/s": rate, "result": result})
    return rows


def compiling(terms: Terms) -> Rows:
    """First steps and pace of captured steps in bfloat16 without and with ``torch.compile``."""
    rows: Rows = []
    for name in ("SNGAN", "StyleGAN2"):
        for compiled in (False, True):
            if time.monotonic() > terms.until:
                return [*rows, {"GAN": "the rest", "result": "not tried: the time is over"}]
            # A CPU compiles for minutes.
            changes = {"precision": "bfloat16", "compile": compiled}
            if terms.emulated:
                changes = {}
            width = 1 / 32 if terms.emulated else 1.0
            try:
                warm, rate, result = warm_up_and_rate(name, width, terms.device, False, changes)
                if terms.emulated and compiled:
                    result = "emulated: not compiled"
            except Exception as error:  # the other row is tried all the same
                warm, rate, result = 0.0, 0.0, f"{type(error).__name__}: {error}".splitlines()[0]
            row = {"GAN": name, "compiled": compiled, "first steps s": warm, "steps/s": rate}
            rows.append({**row, "result": result})
            if not terms.emulated:
                torch.cuda.empty_cache()
    return rows


PARTS: dict[str, tuple[Callable[[Any], Rows], float]] = {
    "tuning": (tuning, 0.2),
    "compile": (compiling, 0.2),
}
"""As ``gpu_check`` has them: each with its share of the time."""
