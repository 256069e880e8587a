"""Which kernel evaluates: plain numpy, or compiled code where the optional numba is installed.

Compiling takes seconds the first time (then it is cached beside the module, or in
``NUMBA_CACHE_DIR``), so the evaluator uses compiled code on request or once it is loaded.
"""

from __future__ import annotations

import importlib
import sys
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ensgan.errors import InputError

UInt64Array: TypeAlias = npt.NDArray[np.uint64]
Int64Array: TypeAlias = npt.NDArray[np.int64]
Float64Array: TypeAlias = npt.NDArray[np.float64]
FourArrays: TypeAlias = tuple[Float64Array, Float64Array, Float64Array, Float64Array]
"""Intra-d, Inter-d, density, coverage."""

KERNELS = ("auto", "numpy", "numba")
_MODULE = "ensgan.search.compiled"


class Compiled(Protocol):
    """What the compiled module offers."""

    def batch(
        self,
        flags: UInt64Array,
        unions: UInt64Array,
        pairs: Float64Array,
        linear: Float64Array,
        shares: Float64Array,
        points: int,
    ) -> FourArrays:
        """Subsets as words of eight flags [B, 2·ceil(M/16)]."""

    def neighbours(
        self,
        words: UInt64Array,
        inside: Int64Array,
        places: Int64Array,
        outside: Int64Array,
        pair: Float64Array,
        linear: Float64Array,
        shares: Float64Array,
        points: int,
    ) -> FourArrays:
        """All additions, removals and swaps: arrays [len(places)+1, len(outside)+1]."""


def loaded() -> bool:
    """Whether the compiled kernels are loaded in this process."""
    return _MODULE in sys.modules


def load() -> Compiled:
    """Load the compiled kernels.

    Raises:
        InputError: numba is not installed.
    """
    try:
        module: Compiled = importlib.import_module(_MODULE)
    except ImportError as error:
        raise InputError(
            "kernel 'numba' needs the numba package: pip install 'ensgan[speed]', or use kernel "
            "'numpy'"
        ) from error
    return module
