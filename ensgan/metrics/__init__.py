"""Scores of generators: density, coverage, precision, recall, overlap, Fréchet, memorisation.

Every hit count is exact, whatever the backend, offset or scale of the features.
"""

from __future__ import annotations

from ensgan.metrics.blocks import BlockScores, BlockTask, score_block
from ensgan.metrics.frechet import frechet_distance
from ensgan.metrics.memorisation import (
    COPY_RATIO,
    Memorisation,
    MemorisationReference,
    memorisation,
)
from ensgan.metrics.options import Mapper, PoolOptions
from ensgan.metrics.pair_precision import pair_precision
from ensgan.metrics.pool import PoolMeasures, add_members, measure_pool, score_pool
from ensgan.metrics.prdc import (
    PRDC,
    DensityCoverage,
    MemberScore,
    density_coverage,
    prdc,
    score_member,
)
from ensgan.metrics.reference import RealReference, kept_reference, prepare

__all__ = [
    "COPY_RATIO",
    "PRDC",
    "BlockScores",
    "BlockTask",
    "DensityCoverage",
    "Mapper",
    "MemberScore",
    "Memorisation",
    "MemorisationReference",
    "PoolMeasures",
    "PoolOptions",
    "RealReference",
    "add_members",
    "density_coverage",
    "frechet_distance",
    "kept_reference",
    "measure_pool",
    "memorisation",
    "pair_precision",
    "prdc",
    "prepare",
    "score_block",
    "score_member",
    "score_pool",
]
