"""Scores of generators: density, coverage, precision, recall and overlap.

Every hit count is exact, whatever the backend, offset or scale of the features.
"""

from __future__ import annotations

from ensgan.metrics.blocks import BlockScores, BlockTask, score_block
from ensgan.metrics.pool import add_members, score_pool
from ensgan.metrics.prdc import (
    PRDC,
    DensityCoverage,
    MemberScore,
    RealReference,
    density_coverage,
    prdc,
    prepare,
    score_member,
)

__all__ = [
    "PRDC",
    "BlockScores",
    "BlockTask",
    "DensityCoverage",
    "MemberScore",
    "RealReference",
    "add_members",
    "density_coverage",
    "prdc",
    "prepare",
    "score_block",
    "score_member",
    "score_pool",
]
