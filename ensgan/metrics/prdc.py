"""Precision, recall, density and coverage of one generated set, and cheap scores of a member.

Density and coverage: Naeem et al., *Reliable fidelity and diversity metrics for generative
models*, ICML 2020. Precision and recall: Kynkäänniemi et al., *Improved precision and recall
metric for assessing generative models*, NeurIPS 2019. Strictly "inside" the ball throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensgan.metrics.choice import make_backend
from ensgan.metrics.exact import describe
from ensgan.metrics.features import (
    FeatureSource,
    Frame,
    check_points,
    magnitude,
    open_features,
    robust_centre,
    shifted,
)
from ensgan.metrics.hits import PlacedSet, pair_hits
from ensgan.metrics.radii import measure_balls, measure_points
from ensgan.metrics.reference import RealReference, prepare
from ensgan.types import UInt8Array, harmonic_mean

BLOCK_ENTRIES = 1 << 22
"""Distances held at a time unless a memory budget says less."""


@dataclass(frozen=True)
class DensityCoverage:
    """Density (≥ 0, can exceed 1) and coverage in [0,1] of a generated set."""

    density: float
    coverage: float

    @property
    def d(self) -> float:
        """Harmonic mean of the two, 0 when both are 0."""
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

    def to_json(self) -> dict[str, Any]:
        """The object that ``ensgan prdc --json`` prints."""
        return dict(vars(self))


def density_coverage(
    real: FeatureSource, fake: FeatureSource, k: int = 5, *, backend: str = "auto"
) -> DensityCoverage:
    """Density and coverage of ``fake`` with the balls round ``real``.

    Args:
        real: [N,D] features, float16/32/64.
        fake: [M,D] features.
        k: the radius of a real point is the distance to its k-th nearest other real point.
        backend: ``auto``, ``torch`` or ``faiss``; the numbers do not depend on it.

    Raises:
        InputError: NaN or infinity, different dimensions, N < k+1, no fake point, k < 1.
    """
    reference = prepare(real, k, backend=backend)
    score = score_member(reference, fake)
    return DensityCoverage(score.density, score.coverage)


def prdc(
    real: FeatureSource,
    fake: FeatureSource,
    k: int = 5,
    *,
    backend: str = "auto",
    on_warning: Callable[[str], None] | None = None,
) -> PRDC:
    """Precision, recall, density and coverage; arguments and errors as :func:`density_coverage`.

    Recall takes the balls of ``fake``, so that set needs k+1 points too. ``on_warning`` is called
    with one sentence for each set with duplicates or zero variance.
    """
    chosen = make_backend(backend)
    sets = [open_features(real, "real"), open_features(fake, "fake")]
    check_points(sets[0], "real", k)
    check_points(sets[1], "fake", k, sets[0].shape[1])
    shift = max(magnitude(features) for features in sets)
    sets = [shifted(features, shift) for features in sets]
    centre = robust_centre(sets[0])
    balls = [measure_balls(features, k, chosen, centre=centre) for features in sets]
    for name, each in zip(("real", "fake"), balls, strict=True):
        for sentence in describe(each, name, is_real=name == "real"):
            if on_warning is not None:
                on_warning(sentence)
    frame = Frame.spanning(centre, max(each.deviation for each in balls))
    of_real, of_fake = pair_hits(
        PlacedSet(sets[0], balls[0], frame, chosen),
        PlacedSet(sets[1], balls[1], frame, chosen),
        BLOCK_ENTRIES,
    )
    return PRDC(
        of_real.precision,
        of_fake.precision,
        of_real.density(k),
        of_real.coverage,
        k,
        len(sets[0]),
        len(sets[1]),
        chosen.name,
    )


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
    def intra_d(self) -> float:
        """Harmonic mean of density and coverage."""
        return float(harmonic_mean(self.density, self.coverage))


def score_member(
    reference: RealReference, fake: FeatureSource, *, name: str = "fake"
) -> MemberScore:
    """Density, coverage and mask of one member [M,D]: one matrix product, no radii.

    Raises:
        InputError: NaN or infinity, other dimensions than the reference.
    """
    real = reference.placed
    features = open_features(fake, name)
    check_points(features, name, reference.k, real.features.shape[1], least=1)
    features = shifted(features, reference.shift)
    points = measure_points(features, real.frame.centre)
    if points.deviation > np.ldexp(1.0, real.frame.exponent + 40):
        frame = Frame.spanning(real.frame.centre, points.deviation)
        real = PlacedSet(real.features, real.balls, frame, real.backend)
    member = PlacedSet(features, points, real.frame, real.backend)
    hits, _ = pair_hits(real, member, BLOCK_ENTRIES)
    return MemberScore(
        hits.density(reference.k), hits.coverage, np.packbits(hits.reached), hits.precision
    )
