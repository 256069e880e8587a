"""Fréchet distance between two feature sets (Heusel et al. 2017, there on Inception features)."""

from __future__ import annotations

import numpy as np

from ensgan.errors import DataError
from ensgan.metrics.features import FeatureArray, FeatureSource, check_points, open_features
from ensgan.types import Float64Array


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
    from scipy.linalg import svdvals

    first, second = open_features(real, "real"), open_features(fake, "fake")
    check_points(first, "real", 1)
    check_points(second, "fake", 1, first.shape[1])
    origin = np.asarray(first[0], np.float64)
    (mean_1, root_1), (mean_2, root_2) = _root(first, origin), _root(second, origin)
    trace = np.square(root_1).sum() + np.square(root_2).sum()
    distance = np.square(mean_1 - mean_2).sum() + trace - 2 * svdvals(root_1 @ root_2.T).sum()
    if not np.isfinite(distance):
        raise DataError("the Fréchet distance overflows: scale the features down")
    return max(0.0, float(distance))


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
