"""Precision, recall, density, coverage and Fréchet distance of one generated set.

Density and coverage: Naeem et al., *Reliable fidelity and diversity metrics for generative
models*, ICML 2020. Precision and recall: Kynkäänniemi et al., *Improved precision and recall
metric for assessing generative models*, NeurIPS 2019. Strictly "inside" the ball throughout.
Fréchet distance: Heusel et al. 2017, there on Inception features.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ensgan.errors import DataError
from ensgan.files import read_npz, write_npz
from ensgan.inputs import explained
from ensgan.metrics.ball_counts import HostCounts, PlacedSet
from ensgan.metrics.device_pairs import DeviceCounts
from ensgan.metrics.device_points import CardMemory
from ensgan.metrics.exact_distance import BALL_ARRAYS, Balls
from ensgan.metrics.features import FeatureArray, FeatureSource, Frame, open_checked, robust_centre
from ensgan.metrics.knn import make_backend
from ensgan.metrics.pool import Mapper, Progress, Warn, measure_pool
from ensgan.metrics.radii import measure_balls, measure_points
from ensgan.types import Float64Array, UInt8Array, harmonic_mean

_MEMORY = 1 << 30  # of a card


@dataclass(frozen=True)
class MemberScore:
    """Scores of one member against a :class:`RealReference`.

    Attributes:
        density: density(R, S), can exceed 1.
        coverage: coverage(R, S) in [0,1].
        mask: uint8 [ceil(N/8)], ``numpy.packbits`` of the real points reached.
        precision: share of the member's points inside some real ball.
    """

    density: float
    coverage: float
    mask: UInt8Array
    precision: float

    @property
    def d(self) -> float:
        """Harmonic mean of density and coverage, 0 when both are 0: the member's Intra-d."""
        return float(harmonic_mean(self.density, self.coverage))


@dataclass(frozen=True)
class PRDC:
    """All four measures; precision, recall and coverage in [0,1], density ≥ 0."""

    precision: float
    recall: float
    density: float
    coverage: float
    k: int
    n_real: int
    n_fake: int
    backend: str


def density_coverage(
    real: FeatureSource, fake: FeatureSource, k: int = 5, *, backend: str = "auto"
) -> MemberScore:
    """Density and coverage of ``fake`` with the balls round ``real``.

    Args:
        real: [N,D] features, float16/32/64.
        fake: [M,D] features.
        k: the radius of a real point is the distance to its k-th nearest other real point.
        backend: ``auto``, ``torch`` or ``faiss``; the numbers do not depend on it.

    Raises:
        InputError: NaN or infinity, different dimensions, N < k+1, no fake point, k < 1.

    Example:
        >>> import numpy as np, ensgan
        >>> real = np.arange(8.0)[:, None]
        >>> score = ensgan.density_coverage(real, real[:4], k=1)
        >>> float(score.density), float(score.coverage)
        (1.0, 0.5)
    """
    return score_member(prepare(real, k, backend=backend), fake)


def prdc(
    real: FeatureSource,
    fake: FeatureSource,
    k: int = 5,
    *,
    backend: str = "auto",
    on_warning: Warn | None = None,
) -> PRDC:
    """Precision, recall, density and coverage; arguments and errors as :func:`density_coverage`.

    Recall takes the balls of ``fake``, so that set needs k+1 points too. ``on_warning`` is called
    with one sentence for each set with duplicates or zero variance.
    """
    measures = measure_pool(real, [fake], ["fake"], k, backend=backend, on_warning=on_warning)
    scores = measures.scores
    values = (measures.precision, measures.recall, scores.density, scores.coverage)
    precision, recall, density, coverage = (float(value[0]) for value in values)
    points = scores.n_real, int(scores.counts[0])
    return PRDC(precision, recall, density, coverage, k, *points, make_backend(backend).name)


@dataclass(frozen=True)
class RealReference:
    """A real set with its radii, measured once, to score any number of members against.

    Attributes:
        placed: the features [N,D], radii and frame.
        k: neighbour that sets the radius.
    """

    placed: PlacedSet
    k: int


def prepare(
    real: FeatureSource, k: int = 5, *, backend: str = "auto", kept: Path | None = None
) -> RealReference:
    """Measure the radii of a real set [N,D] once.

    Args:
        real, k, backend: as for :func:`density_coverage`.
        kept: file that keeps the radii between calls. Its name must identify the
            features, which are not hashed again. A damaged file, or one of another k or number of
            points, is made again.

    Raises:
        InputError: NaN or infinity, N < k+1, k < 1.
    """
    chosen = make_backend(backend)
    features = open_checked(real, "real", k)
    balls, centre = None, robust_centre(features)
    if kept is not None and kept.exists():
        # A damaged file is measured again, and another's: it has another centre.
        with suppress(DataError), explained(str(kept)):
            arrays = read_npz(kept, (*BALL_ARRAYS, "k", "centre"))
            is_its_own = np.array_equal(arrays["centre"], centre)
            if is_its_own and (int(arrays["k"]), len(arrays["squared"])) == (k, len(features)):
                balls = Balls.of_arrays(arrays)
    if balls is None:
        balls = measure_balls(features, k, chosen, centre)
        if kept is not None:
            write_npz(kept, **vars(balls), centre=centre, k=np.int64(k))
    frame = Frame.spanning(centre, balls.deviation)
    return RealReference(PlacedSet(features, balls, frame, chosen), k)


def score_member(reference: RealReference, fake: FeatureSource) -> MemberScore:
    """Density, coverage and mask of one member [M,D]: one matrix product, no radii.

    Raises:
        InputError: NaN or infinity, other dimensions than the reference.
    """
    real = reference.placed
    features = open_checked(fake, "fake", reference.k, real.features.shape[1], least=1)
    points = measure_points(features, real.frame.centre)
    # Float32 coordinates may be some powers of two beyond the frame, but not all that exist.
    if points.deviation > np.ldexp(1.0, real.frame.exponent + 40):
        frame = Frame.spanning(real.frame.centre, points.deviation)
        real = replace(real, frame=frame)
    member = PlacedSet(features, points, real.frame, real.backend)
    counter: HostCounts | DeviceCounts = HostCounts()
    if real.backend.card is not None:
        memory = CardMemory(real.backend.card, _MEMORY, warnings.warn)
        counter = DeviceCounts(real.frame, memory, HostCounts())
    ((counts, _),) = counter.count([real], member)
    return MemberScore(
        density=int(counts.held.sum()) / (reference.k * len(member)),
        coverage=float((counts.held > 0).mean()),
        mask=np.packbits(counts.held > 0),
        precision=float(counts.covered.mean()),
    )


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
    mapper: Mapper = map,
    on_progress: Progress | None = None,
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
