"""Number formats: which a device computes in, and computing in one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["float32", "tf32", "bfloat16"]
Wanted: TypeAlias = Literal["auto", "float32", "tf32", "bfloat16"]
"""What settings may ask for; ``auto`` is decided where the work is done."""


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
        if wanted in ("bfloat16", "tf32") and not _has_fast_bfloat16(device):  # Ampere has both
            return [f"precision {wanted}: {name} does not compute in it: use float32 or auto"]
    return []


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _has_amx()


@lru_cache(maxsize=1)
def _has_amx() -> bool:
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text().split()
    except OSError:  # not Linux
        return False


@contextmanager
def arithmetic(precision: Precision, device: torch.device, *, tunes: bool = True) -> Iterator[None]:
    """cuDNN as a training wants it, put back at the end: TF32 unless float32 was asked for.

    Args:
        precision, device: of the training.
        tunes: cuDNN tries its algorithms out, once per size and thread.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32, cudnn.benchmark = precision != "float32", tunes
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark = before


def mixed(precision: Wanted, device: torch.device) -> AbstractContextManager[object]:
    """Around a forward: automatic mixed precision where bfloat16 was asked for."""
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
