"""Scores of generators: density, coverage, precision, recall, overlap, Fréchet, memorisation.

Every hit count is exact, whatever the backend, offset or scale of the features.
"""

from __future__ import annotations

from ensgan.metrics.features import PoolLabels
from ensgan.metrics.frechet import frechet_distance
from ensgan.metrics.memorisation import COPY_RATIO, Memorisation, MemorisationReference
from ensgan.metrics.pool import Mapper, PoolMeasures, measure_pool, score_pool
from ensgan.metrics.reference import (
    PRDC,
    MemberScore,
    RealReference,
    density_coverage,
    prdc,
    prepare,
    score_member,
)
from ensgan.metrics.sums import ClassScores

__all__ = [
    "COPY_RATIO",
    "PRDC",
    "ClassScores",
    "Mapper",
    "MemberScore",
    "Memorisation",
    "MemorisationReference",
    "PoolLabels",
    "PoolMeasures",
    "RealReference",
    "density_coverage",
    "frechet_distance",
    "measure_pool",
    "prdc",
    "prepare",
    "score_member",
    "score_pool",
]
