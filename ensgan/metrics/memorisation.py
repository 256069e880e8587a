"""Does a generator repeat its training images? Distances to training against held-out images.

Sources: Meehan, Chaudhuri, Dasgupta, *A non-parametric test to detect data-copying in generative
models*, AISTATS 2020 (C_T, here over one cell); Alaa et al., *How faithful is your synthetic
data?*, ICML 2022 (authenticity).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ensgan.errors import DataError
from ensgan.metrics.device_pairs import find_near
from ensgan.metrics.device_points import CardMemory
from ensgan.metrics.exact_distance import squared_distances
from ensgan.metrics.features import (
    FeatureArray,
    FeatureSource,
    Frame,
    deviations,
    open_checked,
    robust_centre,
)
from ensgan.metrics.knn import Backend, Entries, make_backend, pair_error
from ensgan.metrics.radii import measure_balls, representatives
from ensgan.types import BoolArray, Float64Array, Int64Array

COPY_RATIO = 0.5
"""A copy candidate is this much nearer to a training image than that image to its own nearest."""

_ROWS = 1024
_CARD_BYTES = 1 << 30


@dataclass(frozen=True)
class Memorisation:
    """Where generated images lie relative to training and held-out images.

    Attributes:
        to_training: float64 [M], distance of each generated image to its nearest training image.
        training_index: int64 [M], which one that is.
        to_held_out: float64 [M], distance to its nearest held-out image.
        isolation: float64 [M], distance of that training image to its nearest different one.
        held_out_to_training: float64 [H], what images that were never trained on look like.
        held_out_isolation: float64 [H], as ``isolation`` for the held-out images.
    """

    to_training: Float64Array
    training_index: Int64Array
    to_held_out: Float64Array
    isolation: Float64Array
    held_out_to_training: Float64Array
    held_out_isolation: Float64Array

    @cached_property
    def ratio(self) -> Float64Array:
        """Distance to training over distance to held-out, [M]; 0 for a copy of a training image.

        The training set is usually the larger, so values somewhat below 1 are normal.
        """
        apart = np.where(self.to_held_out > 0, self.to_held_out, 1)
        same = np.where(self.to_training > 0, np.inf, 1.0)
        return np.where(self.to_held_out > 0, self.to_training / apart, same)

    @property
    def copies(self) -> BoolArray:
        """Copy candidates, bool [M]: within COPY_RATIO of the training image's own isolation."""
        return _copies(self.to_training, self.isolation)

    @property
    def copy_share(self) -> float:
        """Share of copy candidates in [0,1]; compare with ``baseline_share``."""
        return float(self.copies.mean())

    @property
    def baseline_share(self) -> float:
        """Share of *held-out* images that the same rule calls copies: its false alarms."""
        return float(_copies(self.held_out_to_training, self.held_out_isolation).mean())

    @property
    def authenticity(self) -> float:
        """Share of generated images farther from their training image than its nearest (Alaa)."""
        return float((self.to_training > self.isolation).mean())

    @cached_property
    def c_t(self) -> float:
        """z of the Mann–Whitney test of Meehan et al.: far below 0 means copying, above underfit.

        It compares how near generated and how near held-out images come to the training set.
        """
        return _mann_whitney_z(self.to_training, self.held_out_to_training)

    @property
    def p_value(self) -> float:
        """One-sided p of ``c_t``: chance of so small a z without copying."""
        from scipy.stats import norm

        return float(norm.cdf(self.c_t))

    def row(self) -> dict[str, Any]:
        """The summary as a table or a JSON file shows it."""
        return {
            "images": len(self.to_training),
            "median_ratio": float(np.median(self.ratio)),
            "copy_candidates": int(np.count_nonzero(self.copies)),
            "copy_share": self.copy_share,
            "baseline_share": self.baseline_share,
            "authenticity": self.authenticity,
            "c_t": self.c_t,
            "p_value": self.p_value,
        }

    @classmethod
    def union(cls, members: Sequence[Memorisation]) -> Memorisation:
        """Of an ensemble: its members' images together (same training and held-out images).

        Raises:
            DataError: no member, or members measured against different held-out images.
        """
        if not members:
            raise DataError("an ensemble needs a member")
        first = members[0]
        for other in members:
            if not np.array_equal(other.held_out_to_training, first.held_out_to_training):
                raise DataError("members were measured against different images: measure them anew")
        names = ("to_training", "training_index", "to_held_out", "isolation")
        arrays = {name: [getattr(member, name) for member in members] for name in names}
        return replace(first, **{name: np.concatenate(part) for name, part in arrays.items()})


class MemorisationReference:
    """Training and held-out images, measured once for any number of members.

    Args:
        train: [N,D] features of the training images, at least two different ones.
        held_out: [H,D] features of images never trained on.
        backend: ``auto``, ``torch`` or ``faiss``.

    Raises:
        InputError: NaN or infinity, different dimensions, too few images.
    """

    def __init__(
        self, train: FeatureSource, held_out: FeatureSource, *, backend: str = "auto"
    ) -> None:
        self._backend: Backend = make_backend(backend)
        self._train = open_checked(train, "training features", 1)
        self._held_out = open_checked(
            held_out, "held-out features", 1, self._train.shape[1], least=1
        )
        self._isolation = _isolation(self._train, self._backend)
        index, self._distance = nearest(self._held_out, self._train, self._backend)
        self._held_out_isolation = self._isolation[index]

    def measure(self, fake: FeatureSource, *, name: str = "fake") -> Memorisation:
        """Measure one member's images [M,D].

        Raises:
            InputError: NaN or infinity, other dimensions than the training features.
        """
        features = open_checked(fake, name, 1, self._train.shape[1], least=1)
        index, to_training = nearest(features, self._train, self._backend)
        _, to_held_out = nearest(features, self._held_out, self._backend)
        return Memorisation(
            to_training,
            index,
            to_held_out,
            self._isolation[index],
            self._distance,
            self._held_out_isolation,
        )


def _isolation(train: FeatureArray, backend: Backend) -> Float64Array:
    """Distance of every training image to its nearest *different* one, [N]."""
    same = representatives(train)
    different = np.unique(same)
    if len(different) < 2:
        raise DataError("training features have zero variance: all images are the same")
    # Copies of an image are 0 from one another: with them every isolation would be 0 too.
    balls = measure_balls(train if len(different) == len(train) else train[different], 1, backend)
    return balls.radii(0)[np.searchsorted(different, same)]


def _copies(distance: Float64Array, isolation: Float64Array) -> BoolArray:
    return np.asarray(distance <= COPY_RATIO * isolation)


def _mann_whitney_z(first: Float64Array, second: Float64Array) -> float:
    """Standardised U (normal approximation, ties corrected): negative when ``first`` is smaller."""
    from scipy.stats import rankdata

    n, m = len(first), len(second)
    ranks = rankdata(np.concatenate([first, second]))
    u = ranks[:n].sum() - n * (n + 1) / 2
    _, ties = np.unique(ranks, return_counts=True)
    total = n + m
    spread = total + 1 - (ties.astype(float) ** 3 - ties).sum() / (total * max(1, total - 1))
    return float((u - n * m / 2) / np.sqrt(n * m * spread / 12)) if spread > 0 else 0.0


def nearest(
    points: FeatureArray, references: FeatureArray, backend: Backend
) -> tuple[Int64Array, Float64Array]:
    """For each point the index of its nearest reference and the distance, [n] each.

    Distances are float64 sums of squared differences; the product only finds the candidates, and
    equally near references are settled by the smaller index.

    Args:
        points: [n,D] checked features.
        references: [m,D] checked features, m ≥ 1.
        backend: computes the blocks.
    """
    centre = robust_centre(references)
    largest = max(deviations(part, centre)[0] for part in (points, references))
    frame = Frame.spanning(centre, largest)
    near = None
    if backend.card is not None:
        memory = CardMemory(backend.card, _CARD_BYTES, warnings.warn)
        near = memory.run(lambda: find_near(points, references, 1, frame, memory))
    if near is None:
        near = _candidates(points, references, frame, backend)
    rows, columns = near.rows, near.columns
    squared = squared_distances(points, rows, references, columns)
    # Row by row the nearest first, of equally near ones the smaller index.
    order = np.lexsort((columns, squared, rows))
    first = order[np.searchsorted(rows[order], np.arange(len(points)))]
    return columns[first], np.sqrt(squared[first])


def _candidates(
    points: FeatureArray, references: FeatureArray, frame: Frame, backend: Backend
) -> Entries:
    """Pairs of a point and a reference that may be its nearest, by products of the host."""
    columns = backend.operand(frame, references, "column", "single")
    furthest, dim = columns.norms.max(), points.shape[1]
    parts = []
    for start in range(0, len(points), _ROWS):
        part = points[start : start + _ROWS]
        rows = backend.operand(frame, part, "row", "single")
        block = backend.block(rows, columns)
        floor = block.amax(dim=1).numpy().astype(np.float64)
        # All references within twice the error of the best may be the nearest in truth.
        worst = pair_error(rows.norms, np.full(len(part), furthest), dim, "single")
        parts.append(Entries.above(block, (floor - 2 * worst)[:, None]).moved(start, 0))
    return Entries.joined(parts)
