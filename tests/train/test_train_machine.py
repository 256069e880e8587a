"""Freed memory stays with the process of a training."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from ensgan.train.machine import keep_freed_memory

PAGE = 4096
NUMBERS = 4 << 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_is_not_cleared_again_by_the_kernel() -> None:
    assert keep_freed_memory()
    torch.ones(NUMBERS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(NUMBERS)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    once = torch.ones(0).element_size() * NUMBERS / PAGE
    assert faults < 5 * once  # while the heap settles, not ten times
