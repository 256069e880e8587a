"""Parts of ``gpu_check`` for what follows training: pool, radii, embedding, classifiers, faiss."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

from ensgan import metrics
from ensgan.embedding import EXTRACTORS
from ensgan.embedding.extractor import Extractor
from ensgan.errors import InputError
from ensgan.metrics.knn import make_backend
from ensgan.metrics.radii import measure_balls
from ensgan.precision import Wanted
from ensgan.types import Dataset, Samples

POOLS = (30, 110)
"""Members of the pool: the second is the paper's."""
STUDY = 60
"""Classifiers of a study: 20 repeats of three strategies."""
TOGETHER, EPOCHS, WHOLE = 12, 3, 15
"""Classifiers of one batch, the epochs they are timed for, and those until an early stop."""

Rows: TypeAlias = list[dict[str, Any]]


class Terms(Protocol):
    """What ``gpu_check`` hands to a part."""

    device: str
    until: float

    @property
    def emulated(self) -> bool: ...


def features(terms: Terms, points: int, dim: int, seed: int) -> np.ndarray:
    """As of a network: rectified mixtures of 32 latents, float32 [points, dim]."""
    random = torch.Generator(terms.device).manual_seed(seed)
    mix = torch.randn(32, dim, generator=random.manual_seed(1), device=terms.device)
    random.manual_seed(2 + seed)
    latent = torch.randn(points, 32, generator=random, device=terms.device)
    noise = torch.randn(points, dim, generator=random, device=terms.device)
    return np.asarray((torch.relu(latent @ mix + 0.5 * noise) + 0.3).cpu().numpy())


def pool(terms: Terms) -> Rows:
    """Seconds of a whole pool's scores: 30 members first, the paper's 110 if time is left."""
    points, dim = (60, 16) if terms.emulated else (4708, 2048)
    most = 3 if terms.emulated else max(POOLS)
    sets = [features(terms, points, dim, seed) for seed in range(most + 1)]
    rows: Rows = []
    seconds, before = 0.0, 0
    for members in (2, 3) if terms.emulated else POOLS:
        if rows and time.monotonic() + seconds * (members / before) ** 2 > terms.until + 60:
            return [*rows, {"members": members, "result": "not tried: the time is over"}]
        names = [str(index) for index in range(members)]
        begin = time.perf_counter()
        metrics.score_pool(sets[0], sets[1 : members + 1], names, memory_bytes=16 << 30)
        seconds, before = time.perf_counter() - begin, members
        flop = (members + 1) * (members + 2) * points**2 * dim
        row = {"members": members, "seconds": seconds, "TFLOP/s": flop / seconds / 1e12}
        peak = None if terms.emulated else torch.cuda.max_memory_allocated() >> 20
        rows.append({**row, "peak MB": peak})
    return rows


def radii(terms: Terms) -> Rows:
    """Seconds of one set's radii, with memory and with little."""
    rows = []
    sizes = ((60, 16),) if terms.emulated else ((4708, 2048), (12_000, 256))
    for points, dim in sizes:
        one = features(terms, points, dim, 0)
        for memory in (2 << 30, 8 << 20):
            begin = time.perf_counter()
            measure_balls(one, 5, make_backend("torch"), memory_bytes=memory)
            seconds = time.perf_counter() - begin
            rows.append(
                {"points": points, "features": dim, "MiB": memory >> 20, "seconds": seconds}
            )
    return rows


def embedding(terms: Terms) -> Rows:
    """Images per second through ResNet-50 at 224 pixels; random weights."""
    spec = EXTRACTORS.get("resnet50")
    torch.manual_seed(0)
    extractor = Extractor(spec, {}, spec.network({}).state_dict(), terms.device)
    count = 4 if terms.emulated else 4708
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    extractor(images[:64])  # libraries load, cuDNN chooses
    begin = time.perf_counter()
    extractor(images)
    seconds = time.perf_counter() - begin
    row = {"images": count, "images/s": count / seconds}
    return [{**row, "518,000 s": round(518_000 * seconds / count)}]


def classifiers(count: int, device: str, precision: Wanted) -> tuple[float, float]:
    """Seconds of some ResNet-18 at full width of a study, together, and images per second."""
    from ensgan.downstream import ClassifierSettings, MemoryBank, Repeat, Strategy, run_repeats

    begin, tiny = time.perf_counter(), device == "cpu"

    def split(n: int, seed: int) -> Samples:
        images = np.random.default_rng(seed).integers(0, 256, (n, 32, 32), dtype=np.uint8)
        return Samples(images, np.arange(n, dtype=np.int64) % 2)

    train, val, test = (split(16 if tiny else n, n) for n in (4708, 524, 624))
    dataset = Dataset("noise", train, val, test, ("no", "yes"))
    settings = ClassifierSettings(
        epochs=1 if tiny else EPOCHS,
        batch=8 if tiny else 64,
        width=4 if tiny else 64,
        device=device,
        precision=precision,
    )
    strategy, bank = Strategy("selected", ("G@1",)), MemoryBank({"G@1": train})
    repeats = [Repeat(strategy, number, bank) for number in range(count)]
    done = run_repeats(repeats, dataset=dataset, settings=settings, seed=0)
    seconds = time.perf_counter() - begin
    return seconds, sum(each.images for each in done) / seconds


def study(terms: Terms) -> Rows:
    """Seconds of a study's classifiers one by one and as one batch of networks, from a few."""
    together = 2 if terms.emulated else TOGETHER
    formats: tuple[Wanted, ...] = ("float32" if terms.emulated else "tf32", "bfloat16")
    ways = [(count, precision) for precision in formats for count in (1, together)]
    rows: Rows = []
    for count, precision in ways:
        row: dict[str, Any] = {"together": count, "precision": precision}
        if rows and time.monotonic() + count * rows[0]["seconds each"] > terms.until:
            rows.append({**row, "result": "not tried: the time is over"})
            continue
        if count == 1:
            classifiers(1, terms.device, precision)  # libraries load, cuDNN chooses
        seconds, rate = classifiers(count, terms.device, precision)
        each = seconds / count
        whole = STUDY * each * WHOLE / EPOCHS
        rows.append({**row, "seconds each": each, f"{STUDY} s": whole, "images/s": rate})
    return rows


def faiss(terms: Terms) -> Rows:
    """Seconds of a small pool with faiss beside torch, or why not."""
    points, dim = (60, 16) if terms.emulated else (4708, 2048)
    sets = [features(terms, points, dim, seed) for seed in range(4)]
    rows: Rows = []
    for name in ("torch", "faiss"):
        try:
            device = make_backend(name).device
        except InputError as error:
            rows.append({"backend": name, "result": str(error)})
            continue
        begin = time.perf_counter()
        metrics.score_pool(sets[0], sets[1:], ["a", "b", "c"], backend=name)
        seconds = time.perf_counter() - begin
        rows.append({"backend": name, "on": device, "seconds": seconds, "result": "ok"})
    return rows


PARTS: dict[str, tuple[Callable[[Any], Rows], float]] = {
    "pool": (pool, 0.3),
    "radii": (radii, 0.03),
    "embedding": (embedding, 0.05),
    "study": (study, 0.15),
    "faiss": (faiss, 0.05),
}
"""As ``gpu_check`` has them: each with its share of the time."""
