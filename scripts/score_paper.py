"""The paper's whole pool scored at once: seconds, and the part of the device's product rate."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ensgan import metrics
from ensgan.metrics.knn import full_precision, make_backend

_RATE_SECONDS = 1.0


def score_paper(
    members: int,
    points: int,
    dim: int,
    backends: Sequence[str],
    features: Callable[[int, int, int], np.ndarray],
    *,
    memory: int,
) -> dict[str, Any]:
    """Score a made-up pool with each backend, on a GPU where the backend finds one.

    Args:
        members, points, dim: of the pool; the real set has as many points.
        backends: names.
        features: from points, dim and a seed to float32 [points, dim].
        memory: bytes, as ``--memory``.
    """
    sets = [features(points, dim, seed) for seed in range(members + 1)]
    names = [str(index) for index in range(members)]
    # Radii of every set, and one product for both directions of every pair.
    products = (members + 1) + members * (members + 1) / 2
    flop = products * 2.0 * points**2 * dim
    result: dict[str, Any] = {"members": members, "points": points, "dim": dim, "flop": flop}
    for name in backends:
        device = make_backend(name).device
        rate = product_rate(points, dim, device)
        # The first call pays for what a device sets up once.
        metrics.score_pool(sets[0], sets[1:3], names[:2], backend=name, memory_bytes=memory)
        begin = time.perf_counter()
        metrics.score_pool(sets[0], sets[1:], names, backend=name, memory_bytes=memory)
        elapsed = time.perf_counter() - begin
        result[name] = {
            "device": torch.cuda.get_device_name() if device == "cuda" else device,
            "seconds": elapsed,
            "flop_per_second": flop / elapsed,
            "product_flop_per_second": rate,
            "of_product_rate": flop / elapsed / rate,
        }
    return result


def product_rate(points: int, dim: int, device: str) -> float:
    """FLOP/s of the float32 product of two sets (no TF32), median of the calls of a second."""
    left, right = torch.randn(2, points, dim, device=device)
    out = torch.empty(points, points, device=device)
    times: list[float] = []
    with full_precision():
        while len(times) < 4 or sum(times) < _RATE_SECONDS:
            begin = time.perf_counter()
            torch.mm(left, right.T, out=out)
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
    return 2.0 * points**2 * dim / statistics.median(times[1:])
