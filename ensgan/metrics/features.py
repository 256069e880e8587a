"""Feature sets as given by users: checked, described, and copied only where needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from ensgan.errors import DataError, InputError
from ensgan.files import sha256_arrays
from ensgan.types import Float64Array, Int64Array

FeatureArray: TypeAlias = npt.NDArray[np.floating[Any]]
FeatureSource: TypeAlias = npt.NDArray[Any] | torch.Tensor | Callable[[], Any]
"""An array or tensor [n,D], memory-mapped or not, or a function that returns one when called."""
PoolLabels: TypeAlias = tuple[npt.ArrayLike, Sequence[npt.ArrayLike]]
"""Class of every real point [N], and of every point of each member [S_g]: whole numbers."""

_PIECE_BYTES = 1 << 20  # of float64, so that a pass works in the cache
_LARGEST = 1e300  # beyond it, differences of two values might overflow
_FARTHEST = 1000  # 2^±1000 and what it scales to 1 are ordinary floats


def open_features(source: FeatureSource, name: str) -> FeatureArray:
    """The features [n,D] of one set as float16, float32 or float64; a memory map stays one.

    Raises:
        DataError: not two-dimensional, empty, or not numbers.
    """
    value = source() if callable(source) else source
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    array = np.asarray(value) if not isinstance(value, np.memmap) else value
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(
            f"{name}: features must be [points, dimensions] with at least one of each, "
            f"not {list(array.shape)}"
        )
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise DataError(f"{name}: features must be float16, float32 or float64, not {array.dtype}")
    return array


def pieces(features: FeatureArray) -> Iterator[tuple[int, FeatureArray]]:
    """Runs of rows of a megabyte with their first index, so that no pass copies a whole set."""
    rows = max(1, _PIECE_BYTES // (8 * features.shape[1]))
    for start in range(0, len(features), rows):
        yield start, features[start : start + rows]


def open_checked(
    source: FeatureSource, name: str, k: int, dim: int | None = None, *, least: int | None = None
) -> FeatureArray:
    """:func:`open_features`; refuses what cannot be scored.

    Args:
        source: of [n,D].
        name: name of the set, for messages.
        k: neighbour that sets the radius.
        dim: dimensions expected.
        least: points needed, k+1 unless told (a set without balls needs one).

    Raises:
        InputError: k < 1, other dimensions than ``dim``, too few points, NaN or infinity, values
            beyond 1e300.
    """
    features = open_features(source, name)
    if k < 1:
        raise InputError(f"k is {k}: the radius needs a neighbour, so k must be at least 1")
    if dim is not None and features.shape[1] != dim:
        raise DataError(
            f"{name} has {features.shape[1]} dimensions, the real features have {dim}: embed both "
            "with the same extractor"
        )
    if len(features) < (k + 1 if least is None else least):
        raise DataError(
            f"{name} has {len(features)} points; k = {k} needs at least {k + 1}: "
            "bring more points or lower k"
        )
    (largest,) = deviations(features, 0.0)
    if np.isfinite(largest):
        if largest > _LARGEST:
            raise DataError(
                f"{name} has values of up to {largest:.2g}, and {_LARGEST:.0e} is the largest that "
                "can be scored: divide the features of all sets by the same power of two"
            )
        return features
    finite = np.isfinite(features)
    bad, rows = np.count_nonzero(~finite), np.count_nonzero(~finite.all(axis=1))
    raise DataError(
        f"{name} has {bad} NaN or infinite values in {rows} of its {len(features)} points: "
        "check the generator or the extractor, or drop these points"
    )


def robust_centre(features: FeatureArray) -> Float64Array:
    """Coordinate-wise median of at most 256 evenly spaced points, float64 [D].

    A median, so that one point far away does not move the origin away from all others.
    """
    step = -(-len(features) // 256)
    return np.asarray(np.median(np.asarray(features[::step], np.float64), axis=0))


def deviations(features: FeatureArray, *centres: Float64Array | float) -> list[float]:
    """Largest |coordinate − centre| of any point, for each centre; not finite if a value is not."""
    ends = [(piece.min(axis=0), piece.max(axis=0)) for _, piece in pieces(features)]
    low, high = (np.asarray(part, np.float64) for part in zip(*ends, strict=True))
    extent = np.stack((low.min(axis=0), high.max(axis=0)))
    return [float(np.abs(extent - centre).max()) for centre in centres]


def representatives(features: FeatureArray) -> Int64Array:
    """For every point the index of the first identical point (its own if it is the first), [n]."""
    result = np.arange(len(features))
    few = max(1, features.shape[1] // 16)
    # A few coordinates tell most points apart; only the others are read in full.
    _, inverse, counts = np.unique(
        _row_keys(features[:, ::few]), return_inverse=True, return_counts=True
    )
    first: dict[str, int] = {}
    for index in np.flatnonzero(counts[inverse] > 1).tolist():
        # Adding zero turns −0 into +0, as the keys of rows do.
        result[index] = first.setdefault(sha256_arrays(features[index] + 0), index)
    return result


def _row_keys(rows: FeatureArray) -> npt.NDArray[np.uint64]:
    """A 64-bit key of every row: equal rows have equal keys."""
    odd = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], dtype=np.uint64)
    # Adding zero turns −0 into +0; products and sums wrap modulo 2^64.
    bits = (np.asarray(rows, np.float64) + 0.0).view(np.uint64)
    mixed = (bits ^ (bits >> np.uint64(29))) * (odd | np.uint64(1))
    return np.asarray(mixed.sum(axis=1, dtype=np.uint64))


@dataclass(frozen=True)
class Frame:
    """Origin and power of two that bring all sets near 1, so that float32 products are accurate.

    A point x becomes (x − centre)·2^−exponent; distances scale by 2^−exponent exactly.
    """

    centre: Float64Array
    exponent: int

    @classmethod
    def spanning(cls, centre: Float64Array, largest: float) -> Frame:
        """The frame in which the largest coordinate lies in [½, 1), near it for extreme ones."""
        exponent = int(np.frexp(largest)[1]) if largest > 0 else 0
        return cls(centre, int(np.clip(exponent, -_FARTHEST, _FARTHEST)))

    def place(self, features: FeatureArray) -> Float64Array:
        """Points in this frame, float64 [n,D]; one rounding each, whatever the offset."""
        placed = np.subtract(features, self.centre, dtype=np.float64)
        placed *= 2.0**-self.exponent
        return placed
