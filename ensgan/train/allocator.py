"""Memory of the C library: keep what training frees instead of handing it back each time."""

from __future__ import annotations

import ctypes
from functools import lru_cache

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
