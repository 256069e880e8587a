"""The nearest point of another set, for every point of one."""

from __future__ import annotations

import numpy as np

from ensgan.metrics.entries import above, kth_largest_floor
from ensgan.metrics.exact import squared_distances
from ensgan.metrics.features import Extent, FeatureArray, Frame, robust_centre
from ensgan.metrics.knn import Backend, pair_error
from ensgan.types import Float64Array, Int64Array

_ROWS = 1024


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
    largest = max(Extent.of(each).deviation(centre) for each in (points, references))
    frame, dim = Frame.spanning(centre, largest), points.shape[1]
    columns = backend.operand(frame.place(references), "column", "single")
    furthest = columns.norms.max()
    index = np.empty(len(points), np.int64)
    squared = np.empty(len(points))
    for start in range(0, len(points), _ROWS):
        part = np.arange(start, min(start + _ROWS, len(points)))
        rows = backend.operand(frame.place(points[part]), "row", "single")
        block = backend.block(rows, columns)
        floor = kth_largest_floor(block, 1)
        worst = pair_error(rows.norms, np.full(len(part), furthest), dim, "single")
        found = above(block, (floor - 2 * worst)[:, None])
        exact = squared_distances(points, part[found.rows], references, found.columns)
        order = np.lexsort((found.columns, exact, found.rows))
        first = order[np.searchsorted(found.rows[order], np.arange(len(part)))]
        index[part], squared[part] = found.columns[first], exact[first]
    return index, np.sqrt(squared)
