"""Precision and recall of every member, and precision between members: tables for the search."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ensgan.errors import InputError
from ensgan.metrics.choice import make_backend
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
from ensgan.metrics.prdc import BLOCK_ENTRIES
from ensgan.metrics.radii import measure_balls
from ensgan.types import PairPrecision


def pair_precision(
    real: FeatureSource,
    fakes: Sequence[FeatureSource],
    names: Sequence[str],
    k: int = 5,
    *,
    backend: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> PairPrecision:
    """Which images and which real points lie in whose balls, exact; all features in memory.

    Args:
        real: [N,D] features.
        fakes: [S_g,D] a member.
        names: one a member.
        k: neighbour that sets every radius.
        backend: ``auto``, ``torch`` or ``faiss``; the numbers do not depend on it.
        on_progress: called with (products done, products in all).

    Raises:
        InputError: names that do not fit, NaN or infinity, different dimensions, fewer than k+1
            points, k < 1.
    """
    if len(names) != len(fakes):
        raise InputError(f"{len(names)} names for {len(fakes)} members: give one a member")
    chosen = make_backend(backend)
    labels = ("real", *(str(name) for name in names))
    sets = [open_features(s, n) for s, n in zip((real, *fakes), labels, strict=True)]
    for features, label in zip(sets, labels, strict=True):
        check_points(features, label, k, sets[0].shape[1])
    shift = max(magnitude(features) for features in sets)
    sets = [shifted(features, shift) for features in sets]
    centre = robust_centre(sets[0])
    balls = [measure_balls(features, k, chosen, centre=centre) for features in sets]
    frame = Frame.spanning(centre, max(each.deviation for each in balls))
    placed = [PlacedSet(s, b, frame, chosen) for s, b in zip(sets, balls, strict=True)]
    members, products = len(fakes), len(sets) * (len(sets) - 1) // 2
    precision, masks = np.empty(members), []
    between, done = np.eye(members), 0
    for g, rows in enumerate(placed):
        for h in range(g + 1, len(placed)):
            of_rows, of_columns = pair_hits(rows, placed[h], BLOCK_ENTRIES)
            if g == 0:
                precision[h - 1] = of_rows.precision
                masks.append(np.packbits(of_columns.covered))
            else:
                between[g - 1, h - 1] = of_rows.precision
                between[h - 1, g - 1] = of_columns.precision
            done += 1
            if on_progress is not None:
                on_progress(done, products)
    return PairPrecision(labels[1:], precision, np.array(masks), between, len(sets[0]))
