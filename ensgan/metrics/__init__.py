"""Scores of generators: density, coverage, precision, recall, overlap, Fréchet, memorisation.

Every hit count is exact, whatever the backend, offset or scale of the features.
"""

from __future__ import annotations

from ensgan.metrics.estimates import Approximation as Approximation
from ensgan.metrics.features import PoolLabels as PoolLabels
from ensgan.metrics.frechet import frechet_distance as frechet_distance
from ensgan.metrics.memorisation import COPY_RATIO as COPY_RATIO
from ensgan.metrics.memorisation import Memorisation as Memorisation
from ensgan.metrics.memorisation import MemorisationReference as MemorisationReference
from ensgan.metrics.pool import Mapper as Mapper
from ensgan.metrics.pool import PoolMeasures as PoolMeasures
from ensgan.metrics.pool import measure_pool as measure_pool
from ensgan.metrics.pool import score_pool as score_pool
from ensgan.metrics.reference import PRDC as PRDC
from ensgan.metrics.reference import MemberScore as MemberScore
from ensgan.metrics.reference import RealReference as RealReference
from ensgan.metrics.reference import density_coverage as density_coverage
from ensgan.metrics.reference import prdc as prdc
from ensgan.metrics.reference import prepare as prepare
from ensgan.metrics.reference import score_member as score_member
from ensgan.metrics.sums import ClassScores as ClassScores
