"""Fréchet distance between two feature sets (Heusel et al. 2017, there on Inception features)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensgan.errors import DataError
from ensgan.files import content_key, read_json, sha256_arrays, write_json
from ensgan.metrics.features import FeatureArray, FeatureSource, check_points, open_features
from ensgan.types import Float64Array

CHEAP_DIM = 512
"""Up to so many dimensions a distance takes a fraction of a second."""

_GROUP = 8


@dataclass(frozen=True)
class FrechetReference:
    """Mean (about ``origin``) and root of the covariance of a real set, measured once."""

    origin: Float64Array
    mean: Float64Array
    root: Float64Array

    @classmethod
    def of(cls, real: FeatureSource) -> FrechetReference:
        """Of real features [N,D].

        Raises:
            InputError: NaN or infinity, fewer than 2 points.
        """
        features = open_features(real, "real")
        check_points(features, "real", 1)
        origin = np.asarray(features[0], np.float64)
        return cls(origin, *_root(features, origin))

    def distance(self, fake: FeatureSource, *, name: str = "fake") -> float:
        """See :func:`frechet_distance`; ``name`` is whose features these are."""
        from scipy.linalg import svdvals

        features = open_features(fake, name)
        check_points(features, name, 1, len(self.origin))
        mean, root = _root(features, self.origin)
        trace = np.square(self.root).sum() + np.square(root).sum()
        distance = np.square(self.mean - mean).sum() + trace
        distance -= 2 * svdvals(self.root @ root.T).sum()
        if not np.isfinite(distance):
            raise DataError(f"the Fréchet distance of {name} overflows: scale the features down")
        return max(0.0, float(distance))


def frechet_distance(real: FeatureSource, fake: FeatureSource) -> float:
    """‖μ₁−μ₂‖² + tr(C₁) + tr(C₂) − 2·tr((C₁C₂)^½) with unbiased covariances; ≥ 0.

    With Cᵢ = RᵢᵀRᵢ the last trace is the sum of the singular values of R₁R₂ᵀ, which needs neither
    a matrix root nor more points than dimensions. Biased upward for few points: compare sets of
    equal size only.

    Args:
        real, fake: [N,D] and [M,D] features.

    Raises:
        InputError: NaN or infinity, different dimensions, fewer than 2 points.
    """
    return FrechetReference.of(real).distance(fake)


@dataclass(frozen=True)
class FrechetTask:
    """Some members against the real set; ``store`` keeps the result."""

    real: FeatureSource
    fakes: tuple[FeatureSource, ...]
    names: tuple[str, ...]
    store: Path | None = None


def frechet_distances(
    real: FeatureSource,
    fakes: Sequence[FeatureSource],
    names: Sequence[str],
    *,
    checkpoint: Path | None = None,
    mapper: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]] = map,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """The distance of every member; arguments and errors as ``measure_pool`` has them."""
    store = None if checkpoint is None else checkpoint.resolve()
    tasks = [
        FrechetTask(real, tuple(fakes[i : i + _GROUP]), tuple(names[i : i + _GROUP]), store)
        for i in range(0, len(names), _GROUP)
    ]
    found: dict[str, float] = {}
    for part in mapper(measure_frechet, tasks):
        found.update(part)
        if on_progress is not None:
            on_progress(len(found), len(names))
    return {name: found[name] for name in names}


def measure_frechet(task: FrechetTask) -> dict[str, float]:
    """Run one :class:`FrechetTask`; the real set is decomposed once for all its members."""
    path = None
    if task.store is not None:
        sets = zip((task.real, *task.fakes), ("real", *task.names), strict=True)
        digests = [sha256_arrays(open_features(source, name)) for source, name in sets]
        path = task.store / f"frechet-{content_key(digests, task.names)}.json"
        if path.exists():
            with suppress(DataError):  # a damaged file is made again
                return dict(read_json(path))
    reference = FrechetReference.of(task.real)
    found = {
        name: reference.distance(source, name=name)
        for source, name in zip(task.fakes, task.names, strict=True)
    }
    if path is not None:
        write_json(path, found)
    return found


def _root(features: FeatureArray, origin: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Mean about ``origin`` and R with RᵀR = covariance, R no taller than wide."""
    from scipy.linalg import qr

    centred = np.subtract(features, origin, dtype=np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    centred /= np.sqrt(len(features) - 1)
    if len(centred) > centred.shape[1]:
        centred = qr(centred, mode="r", overwrite_a=True, check_finite=False)[0]
        centred = centred[: centred.shape[1]]
    return mean, centred
