"""What a training asks of the machine: number formats, and memory that stays at hand."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["float32", "tf32", "bfloat16"]
PRECISIONS = ("auto", "float32", "tf32", "bfloat16")

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30
_LARGEST_ON_HEAP = 32 << 20
"""The most that glibc takes on 64-bit machines."""


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Tell glibc to keep up to 1 GiB of freed memory for the next step of a training.

    By default it returns freed activations to the kernel, which then has to clear their pages
    again in every step: up to a fifth of the time of a narrow StyleGAN2. Values do not change.

    Returns:
        Whether the C library took the settings; another one than glibc is left alone.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # The first call ends glibc's own adaptation of both thresholds.
    options = {_MMAP_THRESHOLD: _LARGEST_ON_HEAP, _TRIM_THRESHOLD: _KEPT_BYTES}
    taken = {option: set_option(option, value) for option, value in options.items()}
    return all(taken.values())


def resolved_precision(wanted: str, device: torch.device) -> Precision:
    """What ``auto`` means on a device: bfloat16 where it computes faster, else float32.

    That is on NVIDIA cards with bfloat16 arithmetic and on CPUs with AMX tiles.
    """
    if wanted != "auto":
        return wanted  # type: ignore[return-value]
    return "bfloat16" if _has_fast_bfloat16(device) else "float32"


def precision_problems(wanted: str, device: torch.device) -> list[str]:
    """Why a device cannot compute as it is asked to, one sentence."""
    if wanted == "tf32" and device.type != "cuda":
        return [f"precision tf32 is of NVIDIA cards, the device is {device.type}: use float32"]
    if device.type == "cuda" and torch.cuda.is_available():
        name = torch.cuda.get_device_name(device)
        if wanted == "bfloat16" and not _has_fast_bfloat16(device):
            return [f"precision bfloat16: {name} does not compute in it: use float32 or auto"]
        if wanted == "tf32" and torch.cuda.get_device_capability(device)[0] < _AMPERE:
            return [f"precision tf32: {name} does not compute in it: use float32 or auto"]
    return []


_AMPERE = 8


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_available() and (
            torch.cuda.get_device_capability(device)[0] >= _AMPERE
        )
    return device.type == "cpu" and _has_amx()


@lru_cache(maxsize=1)
def _has_amx() -> bool:
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text().split()
    except OSError:  # not Linux
        return False


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """cuDNN as a training wants it, put back at the end: TF32 unless float32 was asked for.

    Sizes never change in a training, so cuDNN may try its algorithms out once.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32, cudnn.benchmark = precision != "float32", True
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark = before
