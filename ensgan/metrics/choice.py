"""Which backend ``auto`` is: the fastest of those present, measured once a machine."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass

import numpy as np
import torch

from ensgan.caches import cache_folder
from ensgan.errors import EnsganError, InputError, unknown_name
from ensgan.files import content_key, read_json, write_json
from ensgan.metrics.entries import above
from ensgan.metrics.knn import Backend, FaissBackend, TorchBackend
from ensgan.types import Float64Array

BACKENDS = ("auto", "faiss", "torch")

FORMAT = 1
"""Raised when an earlier measurement no longer tells which backend is faster."""

_POINTS, _DIM = 2048, 512  # large enough for a GPU to show, some 50 ms on a CPU
_CLEARLY = 0.9  # a measurement on a busy machine wavers; torch needs no further package


def make_backend(name: str = "auto", *, fast: bool = False) -> Backend:
    """The backend of that name; ``auto`` is :func:`chosen`.

    ``torch`` and ``faiss`` take the GPU when there is one that they can use.

    Args:
        name: ``auto``, ``torch`` or ``faiss``.
        fast: let the product alone decide (TF32 on CUDA); counts are then no longer exact.

    Raises:
        InputError: an unknown name, or faiss is asked for and not installed.
    """
    if name not in BACKENDS:
        raise InputError(unknown_name("backend", name, BACKENDS))
    if name == "auto":
        name = chosen().name
    return _MAKERS[name](fast)


def _torch(fast: bool) -> Backend:
    return TorchBackend("cuda" if torch.cuda.is_available() else "cpu", fast=fast)


_MAKERS: dict[str, Callable[[bool], Backend]] = {
    "torch": _torch,
    "faiss": lambda fast: FaissBackend(fast=fast),
}


@dataclass(frozen=True)
class Choice:
    """The backend that ``auto`` stands for, and one sentence that says why."""

    name: str
    reason: str


@functools.cache
def chosen() -> Choice:
    """The fastest backend present; measured once and kept in the cache folder.

    The numbers never depend on it. Without faiss there is nothing to measure.
    """
    if importlib.util.find_spec("faiss") is None:
        return Choice("torch", f"torch on {_device()}: faiss is not installed")
    path = cache_folder() / "backends" / f"{_machine()}.json"
    with suppress(EnsganError, KeyError, TypeError):
        kept = read_json(path)
        if kept["name"] in _MAKERS:
            return Choice(kept["name"], kept["reason"])
    choice = compare()
    with suppress(EnsganError):  # measured again next time where nothing can be written
        write_json(path, asdict(choice))
    return choice


def compare() -> Choice:
    """Time one block of each backend, torch first."""
    times: dict[str, float] = {}
    said = []
    for name in ("torch", "faiss"):
        try:
            backend = _MAKERS[name](False)
            times[name] = _seconds(backend)
        # A faiss built for other GPUs fails in its own kernels; whatever it raises, torch is there.
        except Exception as error:
            if name == "torch":
                raise
            said.append(f"faiss cannot compute here ({str(error).splitlines()[0][:80]})")
            continue
        said.append(f"{name} {1000 * times[name]:.3g} ms a block on {backend.device}")
    best = min(times, key=lambda name: times[name])
    if times[best] > _CLEARLY * times["torch"]:
        best = "torch"
    return Choice(best, f"{best}, measured: {', '.join(said)}")


def _seconds(backend: Backend) -> float:
    """Median time of a block with the search for its few entries near a threshold."""
    points = np.random.default_rng(0).standard_normal((_POINTS, _DIM)) / np.sqrt(_DIM)
    rows = backend.operand(points, "row", "single")
    columns = backend.operand(points, "column", "single")
    limit: Float64Array = np.full((_POINTS, 1), -0.6)

    def once() -> float:
        start = time.perf_counter()
        above(backend.block(rows, columns), limit)
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(3))


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _machine() -> str:
    """What a measurement holds for."""
    versions = {name: _version(name) for name in ("faiss", "faiss-cpu", "faiss-gpu")}
    return content_key(
        FORMAT,
        torch.__version__,
        versions,
        _device(),
        platform.machine(),
        os.cpu_count(),
        torch.get_num_threads(),
    )


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
