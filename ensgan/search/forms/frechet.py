"""The Fréchet form of the objectives: a union's moments are the weighted means of its members'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ensgan.errors import InputError
from ensgan.search.forms.density_coverage import tables_from_scores
from ensgan.search.forms.form import COMPONENTS, FormInputs, ObjectiveForm, Ratio
from ensgan.search.tables import Ensembles, ObjectiveTables, density_and_coverage
from ensgan.types import BoolArray, Float64Array, PoolScores, read_objective

_BLOCK_BYTES = 1 << 23
AXES = (
    read_objective("frechet:max:1-d/scale", maximise=True),
    read_objective("frechet_between:min:1-d/scale", maximise=False),
)


@dataclass(frozen=True)
class UnionMoments:
    """Means and second moments of M members in a frame where the real mean is 0.

    Attributes:
        mean: float64 [M,D].
        second: float64 [M,D,D], mean of x·xᵀ.
        counts: float64 [M], samples.
        real: float64 [D], variances of the real points; the frame's axes are their directions.
    """

    mean: Float64Array
    second: Float64Array
    counts: Float64Array
    real: Float64Array

    def distances(self, subsets: BoolArray) -> Float64Array:
        """Fréchet distance of each union to the real points, exact; nan for empty subsets.

        Equal to stacking the samples: unbiased covariances, as :func:`frechet_distance` has them.

        Args:
            subsets: bool [B,M].
        """
        values = np.empty(len(subsets))
        block = max(1, _BLOCK_BYTES // (8 * self.real.size**2))
        for start in range(0, len(subsets), block):
            values[start : start + block] = self._block(subsets[start : start + block])
        return values

    def _block(self, subsets: BoolArray) -> Float64Array:
        weights = subsets * self.counts
        total = weights.sum(axis=1)
        empty = total == 0
        total[empty] = 2.0
        weights = weights / total[:, None]
        mean = weights @ self.mean
        size = self.real.size
        second = (weights @ self.second.reshape(-1, size * size)).reshape(-1, size, size)
        covariance = second - mean[:, :, None] * mean[:, None, :]
        # Unbiased, as if the samples had been stacked.
        covariance *= (total / (total - 1))[:, None, None]
        distance = _distance(mean, covariance, np.sqrt(self.real))
        distance[empty] = np.nan
        return distance

    def between(self) -> Float64Array:
        """Fréchet distance of every pair of members, float64 [M,M] with a zero diagonal."""
        covariance = self.second - self.mean[:, :, None] * self.mean[:, None, :]
        covariance *= (self.counts / (self.counts - 1))[:, None, None]
        table = np.zeros((len(self.mean), len(self.mean)))
        for g in range(len(table) - 1):
            # In the axes of one member its covariance is diagonal, as :func:`_distance` needs it.
            values, vectors = np.linalg.eigh(covariance[g])
            later = slice(g + 1, None)
            mean = (self.mean[later] - self.mean[g]) @ vectors
            turned = vectors.T @ covariance[later] @ vectors
            table[g, later] = _distance(mean, turned, np.sqrt(np.maximum(values, 0.0)))
        return table + table.T


def _distance(mean: Float64Array, covariance: Float64Array, root: Float64Array) -> Float64Array:
    """‖m‖² + tr(C) + tr(S) − 2·tr((S^½·C·S^½)^½) with S = diag(root²); means [B,D], C [B,D,D]."""
    inner = root[:, None] * covariance * root
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(inner), 0.0)).sum(axis=1)
    trace = np.trace(covariance, axis1=1, axis2=2) + np.square(root).sum()
    distance: Float64Array = np.maximum(0.0, np.square(mean).sum(axis=1) + trace - 2.0 * shared)
    return distance


def union_moments(
    real: npt.ArrayLike, fakes: Sequence[npt.ArrayLike], components: int = COMPONENTS
) -> UnionMoments:
    """Moments of every member.

    Args:
        real: [N,D] features.
        fakes: [S_g,D] per member.
        components: distances are taken in the space of so many principal directions of the real
            features, exactly: an evaluation costs components³.

    Raises:
        InputError: components below 1, other dimensions, fewer than two points.
    """
    points = np.asarray(real, np.float64)
    if points.ndim != 2 or len(points) < 2:
        raise InputError(f"real features must be [N,D] with N ≥ 2, not {list(points.shape)}")
    if components < 1:
        raise InputError(f"components {components}: at least 1")
    centre = points.mean(axis=0)
    _, spread, axes = np.linalg.svd(points - centre, full_matrices=False)
    kept = axes[:components]
    variance = np.square(spread[: len(kept)]) / (len(points) - 1)
    means, seconds, counts = [], [], []
    for number, source in enumerate(fakes):
        fake = np.asarray(source, np.float64)
        if fake.ndim != 2 or fake.shape[1] != points.shape[1] or len(fake) < 2:
            raise InputError(
                f"member {number} has features {list(fake.shape)}, not [n ≥ 2, {points.shape[1]}]"
            )
        turned = (fake - centre) @ kept.T
        means.append(turned.mean(axis=0))
        seconds.append(turned.T @ turned / len(turned))
        counts.append(float(len(turned)))
    return UnionMoments(np.array(means), np.array(seconds), np.array(counts), variance)


def frechet_tables(scores: PoolScores, moments: UnionMoments) -> ObjectiveTables:
    """The Fréchet form: distance of the union to the real points, and mean distance of its pairs.

    Both are reversed and scaled so that they read like Intra-d (larger is better) and Inter-d
    (smaller is better): 1 − distance / scale, where the scale is the largest distance of a single
    member, or of a pair. Front points carry the distances themselves too.

    Raises:
        InputError: the moments are of other members.
    """
    if moments.counts.tolist() != scores.counts.tolist():
        raise InputError(
            f"moments of {len(moments.counts)} members do not fit scores of {len(scores)} members "
            "with other sample counts: use the features that were scored"
        )
    alone = moments.distances(np.eye(len(scores), dtype=bool))
    between = moments.between()
    scale, pair_scale = (float(table.max()) or 1.0 for table in (alone, between))

    def closeness(subsets: BoolArray) -> Float64Array:
        return np.nan_to_num(1.0 - moments.distances(subsets) / scale, nan=0.0)

    def describe(ensembles: Ensembles) -> Mapping[str, Float64Array]:
        return {
            **density_and_coverage(ensembles),
            "frechet": (1.0 - ensembles.first) * scale,
            "frechet_between": (1.0 - ensembles.second) * pair_scale,
        }

    return replace(
        tables_from_scores(scores),
        pair=1.0 - between / pair_scale,
        axes=AXES,
        form="frechet",
        whole=closeness,
        describe=describe,
    )


def _build(inputs: FormInputs) -> ObjectiveTables:
    features = inputs.features
    assert features is not None  # ObjectiveForm.tables has seen to it
    fakes = [load() for load in features.fakes]
    return frechet_tables(inputs.scores, union_moments(features.real(), fakes, inputs.components))


FRECHET = ObjectiveForm(
    "frechet",
    "Fréchet distance to the real features, reversed; mean Fréchet distance of the pairs, reversed",
    AXES,
    _build,
    needs_features=True,
    # Distances from scales of no meaning have no ratio; the distances themselves do.
    ratio=Ratio(
        "frechet_between", "frechet", "distance between members / distance to the real images"
    ),
)
