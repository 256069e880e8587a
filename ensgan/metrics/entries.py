"""What is read off a block of distances: the few entries above a threshold, or how many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ensgan.types import Float64Array, Int64Array


@dataclass(frozen=True)
class Entries:
    """Entries of a block: row and column indices and values, [h] each, in row-major order."""

    rows: Int64Array
    columns: Int64Array
    values: Float64Array

    @classmethod
    def none(cls) -> Entries:
        """No entry at all."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))

    def select(self, which: npt.NDArray[np.bool_]) -> Entries:
        """Those where ``which`` is true."""
        return Entries(self.rows[which], self.columns[which], self.values[which])


def above(block: torch.Tensor, limit: Float64Array) -> Entries:
    """Entries of the block above ``limit`` ([rows,1] or [1,columns]), rounded down first."""
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


@dataclass(frozen=True)
class Summary:
    """Entries of a block above a limit: how many, and which rows and columns hold one."""

    count: int
    rows: npt.NDArray[np.bool_]
    columns: npt.NDArray[np.bool_]

    @classmethod
    def above(cls, block: torch.Tensor, limit: Float64Array) -> Summary:
        """Of entries above ``limit`` ([rows,1] or [1,columns]) as the block's own floats."""
        if block.device.type == "cpu":
            host = block.numpy()
            hot = host > limit.astype(host.dtype)
            rows, columns = np.asarray(hot.any(axis=1)), np.asarray(hot.any(axis=0))
            return cls(int(np.count_nonzero(hot)), rows, columns)
        found = block > torch.from_numpy(limit).to(block)
        reached, covered = found.any(dim=1).cpu().numpy(), found.any(dim=0).cpu().numpy()
        return cls(int(found.sum()), reached, covered)


def kth_largest_floor(block: torch.Tensor, k: int) -> Float64Array:
    """For every row a value that at least k entries reach, seldom more: float64 [rows].

    The k-th largest of the maxima of groups of columns; groups are strided so that the maxima
    are taken along memory.
    """
    rows, columns = block.shape
    groups = max(1, min(16, columns // (16 * k)))
    width = columns // groups
    best = block[:, : groups * width].view(rows, groups, width).amax(dim=1)
    candidates = torch.cat((best, block[:, groups * width :]), dim=1)
    values = candidates.topk(k, dim=1).values[:, -1]
    return np.asarray(values.cpu().numpy(), np.float64)
