"""Scores of generators: density, coverage, precision, recall, overlap, Fréchet, memorisation.

Every hit count is exact, whatever the backend, offset or scale of the features.
"""

from ensgan.metrics.features import PoolLabels
from ensgan.metrics.memorisation import COPY_RATIO, Memorisation, MemorisationReference
from ensgan.metrics.pool import Mapper, PoolMeasures, measure_pool, score_pool
from ensgan.metrics.reference import PRDC as PRDC
from ensgan.metrics.reference import RealReference as RealReference
from ensgan.metrics.reference import density_coverage as density_coverage
from ensgan.metrics.reference import frechet_distance
from ensgan.metrics.reference import prdc as prdc
from ensgan.metrics.reference import prepare as prepare
from ensgan.metrics.reference import score_member as score_member
from ensgan.metrics.sums import Approximation
