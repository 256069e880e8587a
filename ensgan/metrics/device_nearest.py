"""The nearest of some points, found on a card: products of float16, candidates in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ensgan.metrics.device_points import CardMemory, Points, block, error_of, measured, to_host
from ensgan.metrics.features import FeatureArray, Frame
from ensgan.types import Float64Array, Int64Array


@dataclass(frozen=True)
class Near:
    """Pairs among which the nearest are, [h] each.

    Attributes:
        rows, columns: indices of the point and of the reference.
        squared: ‖x − y‖² as float64 sums of squares.
    """

    rows: Int64Array
    columns: Int64Array
    squared: Float64Array


def find_near(
    points: FeatureArray,
    references: FeatureArray,
    k: int,
    frame: Frame,
    memory: CardMemory,
    itself: Int64Array | None = None,
) -> Near:
    """For each point every reference that may be among its k nearest.

    Args:
        points: [n,D] checked features.
        references: [m,D] checked features.
        k: how many, at most m (m − 1 with ``itself``).
        frame: holds both.
        memory: to take.
        itself: int64 [n], which reference is the point itself and does not count.
    """
    search = _Search(points, references, k, frame, memory, itself)
    near, crowded = search.run(np.arange(len(points)), exactly=False)
    parts = [near]
    # Float16 cannot tell the neighbours of these apart (tight clusters far from each other). A
    # point may be as near to all: only as many together as there is memory for.
    step = max(1, memory.entries // len(references))
    for start in range(0, len(crowded), step):
        parts.append(search.run(crowded[start : start + step], exactly=True)[0])
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Near(*(np.concatenate(arrays) for arrays in columns))


@dataclass
class _Search:
    """The arguments of :func:`find_near`, and how many rows and columns are multiplied at once."""

    _points: FeatureArray
    _references: FeatureArray
    _k: int
    _frame: Frame
    _memory: CardMemory
    _itself: Int64Array | None

    def __post_init__(self) -> None:
        memory, references = self._memory, self._references
        dim = references.shape[1]
        # A third of the memory for a run of columns, which is placed once.
        self._width = int(np.clip(memory.bytes // (72 * dim), 1, len(references)))
        height = min(memory.entries // (2 * self._width), memory.bytes // (72 * dim))
        self._height = max(1, height)

    def run(self, which: Int64Array, *, exactly: bool) -> tuple[Near, Int64Array]:
        """Candidates of some points, and which points have too many of them to measure."""
        device, k = self._memory.device, self._k
        least = torch.full((len(which), k), -torch.inf, dtype=torch.float64, device=device)
        # Measuring more than this would take longer than multiplying in float64.
        most = len(self._references) if exactly else 64 + 4 * k
        crowded = torch.zeros(len(which), dtype=torch.bool, device=device)
        parts = []
        for left in range(0, len(self._references), self._width):
            part = self._references[left : left + self._width]
            columns = Points.at(part, self._frame, device)
            for top in range(0, len(which), self._height):
                tile = slice(top, top + self._height)
                rows, low, high = self._tile(which[tile], columns, left, exactly=exactly)
                best = torch.cat((least[tile], low.topk(min(k, len(columns)), dim=1).values), dim=1)
                least[tile] = best.topk(k, dim=1).values
                # What may be among the k nearest; not the points themselves.
                hot = (high >= least[tile, -1:]) & (high > -torch.inf)
                crowded[tile] |= hot.sum(dim=1) > most
                hot &= ~crowded[tile, None]
                at = hot.view(-1).nonzero().squeeze(1)  # waits: how many
                i, j = at // len(columns), at % len(columns)
                squared = measured(rows.raw, columns.raw, i, j, self._memory.bytes)
                parts.append(torch.stack((i + top, j + left, squared.view(torch.int64))))
        row, column, bits = to_host(torch.cat(parts, dim=1))  # waits
        given_up = to_host(crowded)  # waits
        keep = ~given_up[row]
        squared_of = bits[keep].view(np.float64)
        return Near(which[row[keep]], column[keep], squared_of), which[np.flatnonzero(given_up)]

    def _tile(
        self, which: Int64Array, columns: Points, left: int, *, exactly: bool
    ) -> tuple[Points, torch.Tensor, torch.Tensor]:
        """Points as rows with bounds on U, float64 [rows,columns] each."""
        dim, everything, device = self._references.shape[1], slice(None), self._memory.device
        itself = None if self._itself is None else self._itself[which]
        if itself is not None and len(columns) == len(self._references):
            rows = columns.some(torch.from_numpy(itself).to(device))  # uploaded once
        else:
            rows = Points.at(self._points[which], self._frame, device)
        values = block(rows, columns, self._frame, exactly=exactly).double()
        if itself is not None:
            here = np.flatnonzero((itself >= left) & (itself < left + len(columns)))
            place = torch.from_numpy(here * len(columns) + itself[here] - left).to(device)
            values.view(-1).index_fill_(0, place, -torch.inf)
        by_row = tuple(term[:, None] for term in rows.terms(everything))
        error = error_of(dim, by_row, columns.terms(everything), exactly=exactly)
        return rows, values - error, values.add_(error)
