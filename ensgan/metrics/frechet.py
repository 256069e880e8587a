"""Fréchet distance between two feature sets (Heusel et al. 2017, there on Inception features)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensgan.errors import DataError
from ensgan.metrics.features import FeatureArray, FeatureSource, open_checked
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
        features = open_checked(real, "real", 1)
        origin = np.asarray(features[0], np.float64)
        return cls(origin, *_root(features, origin))

    def distance(self, fake: FeatureSource, *, name: str = "fake") -> float:
        """See :func:`frechet_distance`; ``name`` is whose features these are."""
        from scipy.linalg import svdvals

        features = open_checked(fake, name, 1, len(self.origin))
        mean, root = _root(features, self.origin)
        with np.errstate(over="ignore"):
            trace = np.square(self.root).sum() + np.square(root).sum()
            distance = np.square(self.mean - mean).sum() + trace
        # The product's singular values add up to half the trace at most.
        if not np.isfinite(distance):
            raise DataError(
                f"the Fréchet distance of {name} overflows: scale down, or --no-frechet"
            )
        distance -= 2 * svdvals(self.root @ root.T).sum()
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


def frechet_distances(
    real: FeatureSource,
    fakes: Sequence[FeatureSource],
    names: Sequence[str],
    *,
    mapper: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]] = map,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """The distance of every member; arguments and errors as ``measure_pool`` has them."""
    members = list(zip(names, fakes, strict=True))
    tasks = [(real, members[i : i + _GROUP]) for i in range(0, len(members), _GROUP)]
    distances: dict[str, float] = {}
    for part in mapper(measure_frechet, tasks):
        distances.update(part)
        if on_progress is not None:
            on_progress(len(distances), len(names))
    return {name: distances[name] for name in names}


def measure_frechet(
    task: tuple[FeatureSource, Sequence[tuple[str, FeatureSource]]],
) -> dict[str, float]:
    """Of a real set and some named members: it is decomposed once for all of them."""
    real, members = task
    reference = FrechetReference.of(real)
    return {name: reference.distance(source, name=name) for name, source in members}


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
