"""What is read off a block of distances: the few entries above a threshold, the largest ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ensgan.types import BoolArray, Float64Array, Int64Array


@dataclass(frozen=True)
class Entries:
    """Entries of a block: row and column indices and values, [h] each."""

    rows: Int64Array
    columns: Int64Array
    values: Float64Array

    @classmethod
    def none(cls) -> Entries:
        """No entry at all."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))

    @classmethod
    def joined(cls, parts: Sequence[Entries]) -> Entries:
        """All entries of ``parts``, one after another."""
        rows, columns, values = zip(*((p.rows, p.columns, p.values) for p in parts), strict=True)
        return cls(np.concatenate(rows), np.concatenate(columns), np.concatenate(values))

    def moved(self, down: int, right: int) -> Entries:
        """With other indices of the block's first row and column."""
        return Entries(self.rows + down, self.columns + right, self.values)

    def select(self, which: BoolArray | Int64Array) -> Entries:
        """Those where ``which`` is true, or those of these positions."""
        return Entries(self.rows[which], self.columns[which], self.values[which])


def above(block: torch.Tensor, limit: Float64Array) -> Entries:
    """Entries of the block above ``limit`` ([rows,1] or [1,columns]), in row-major order.

    The limit is rounded down to the block's own floats, so that no entry above it is lost.
    """
    dtype = np.float32 if block.dtype == torch.float32 else np.float64
    floor = np.nextafter(limit.astype(dtype), dtype(-np.inf))
    if block.device.type == "cpu":
        # numpy compares and finds several times faster than torch on a CPU.
        host = block.numpy()
        index = np.flatnonzero(host > floor)
        values = host.ravel()[index]
    else:
        hot = block > torch.from_numpy(floor).to(block.device)
        where = hot.view(-1).nonzero().squeeze(1)
        values = block.reshape(-1)[where].cpu().numpy()
        index = where.cpu().numpy()
    rows, columns = np.divmod(index, block.shape[1])
    return Entries(rows, columns, values.astype(np.float64))


def largest_of(block: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
    """k values per row, each reached by an entry of its own, seldom less than the k largest.

    Args:
        block: [rows,columns].
        best: [rows,k], the result for the columns before these; −∞ where there were none.
    """
    rows, columns = block.shape
    k = best.shape[1]
    # The maxima of strided groups of columns stand for all entries: taken along memory, they are
    # far cheaper than a top-k of whole rows, and different groups have different entries.
    groups = max(1, min(16, columns // (16 * k)))
    width = columns // groups
    maxima = block[:, : groups * width].view(rows, groups, width).amax(dim=1)
    candidates = torch.cat((best, maxima, block[:, groups * width :]), dim=1)
    return candidates.topk(k, dim=1).values
