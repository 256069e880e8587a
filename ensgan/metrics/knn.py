"""Blocks of pairwise distances in float32, by torch on the CPU or by faiss, and their bounds.

A block holds U = −½‖x − y‖² for rows x and columns y of one :class:`Frame`, so that membership in
a ball is one comparison: U > −½r². Deciding the entries within the error bound of the comparison
is the caller's business, which is why all backends agree exactly.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from ensgan.errors import InputError, last_line, unknown_name
from ensgan.metrics.features import FeatureArray, Frame, pieces
from ensgan.types import BoolArray, Float64Array, Int64Array

Precision: TypeAlias = Literal["single", "double"]
Side: TypeAlias = Literal["row", "column"]

_ROUNDOFF: dict[Precision, float] = {"single": 2.0**-24, "double": 2.0**-53}
# What underflow can lose per coordinate, with room to spare, where everything is near 1.
_FLOOR: dict[Precision, float] = {"single": 2.0**-110, "double": 2.0**-960}
_DTYPE: dict[Precision, type[np.floating[Any]]] = {"single": np.float32, "double": np.float64}


def relative_bound(dim: int, precision: Precision) -> float:
    """ε with |computed − true ‖x−y‖²| ≤ ε(‖x‖+‖y‖)² for a block of any backend.

    Standard worst-case bound of a length-D inner product summed in any order (D·u), plus the
    roundings of the coordinates and of the two norms.
    """
    return 1.05 * (dim + 10) * _ROUNDOFF[precision]


def ball_margin(
    norms: Float64Array, radii: Float64Array, dim: int, precision: Precision
) -> Float64Array:
    """E [n]: a squared distance computed farther than E from r² is on the side it seems to be.

    For points x with norm ``norms`` and radius r, E = 2ε(2‖x‖+r)² serves every y however far: if
    ‖x−y‖ = r+δ, the error is at most ε(2‖x‖+r+δ)² ≤ E + 2εδ², less than (r+δ)² − r² + E.
    """
    margin: Float64Array = 2 * relative_bound(dim, precision) * (2 * norms + radii) ** 2
    return margin + dim * _FLOOR[precision]


def pair_error(
    row_norms: Float64Array, column_norms: Float64Array, dim: int, precision: Precision
) -> Float64Array:
    """Bound on the error of U for pairs of points with these norms (half that of ‖x−y‖²)."""
    error: Float64Array = 0.5 * relative_bound(dim, precision) * (row_norms + column_norms) ** 2
    return error + dim * _FLOOR[precision]


@dataclass(frozen=True)
class Operand:
    """Points placed in a frame, ready to be rows or columns of blocks.

    Attributes:
        matrix: what the backend multiplies (tensor or array).
        norms: float64 [n], ‖x‖ in the frame.
        precision: of ``matrix``.
    """

    matrix: Any
    norms: Float64Array
    precision: Precision

    def __len__(self) -> int:
        return len(self.norms)

    def part(self, which: slice | Int64Array) -> Operand:
        """Some of the points; without a copy for a slice."""
        return Operand(self.matrix[which], self.norms[which], self.precision)


class Backend:
    """Blocks by one matrix product each, by torch on the CPU.

    Rows [x, −½‖x‖², 1] times columns [y, 1, −½‖y‖²] give U with nothing left to add.

    Attributes:
        name: ``torch`` or ``faiss``.
        card: where pairs are counted instead, by :mod:`ensgan.metrics.device_pairs`; None for the
            blocks of this class.
        device: ``cpu`` or ``cuda``, of whichever.
    """

    name = "torch"

    def __init__(self, card: str | None = None) -> None:
        self.card = card
        self.device = "cpu" if card is None else torch.device(card).type
        self._scratch = threading.local()

    @property
    def threads(self) -> int:
        """Threads that may each compute blocks of their own, 1 where blocks are not CPU's work."""
        return torch.get_num_threads() if self.card is None else 1

    def operand(
        self, frame: Frame, features: FeatureArray, side: Side, precision: Precision
    ) -> Operand:
        """Place points [n,D] as rows or columns of blocks."""
        n, dim = features.shape
        matrix = np.empty((n, dim + 2), _DTYPE[precision])
        squared = _place(frame, features, matrix[:, :dim])
        half, one = (dim, dim + 1) if side == "row" else (dim + 1, dim)
        # The norms of what was rounded to float32, so that U is that of the rounded points.
        matrix[:, half] = -0.5 * squared
        matrix[:, one] = 1
        return Operand(torch.from_numpy(matrix), np.sqrt(squared), precision)

    def as_rows(self, columns: Operand) -> Operand:
        """The same points for the other side of a block."""
        # Only −½‖x‖² and 1 trade places: what is rounded once stays as it is on both sides.
        matrix = columns.matrix.clone()
        matrix[:, -2:] = columns.matrix[:, -2:].flip(1)
        return Operand(matrix, columns.norms, columns.precision)

    def block(self, rows: Operand, columns: Operand) -> torch.Tensor:
        """U [rows,columns]; the next call in the same thread may overwrite it."""
        size, dtype = len(rows) * len(columns), rows.matrix.dtype
        buffer: torch.Tensor | None = getattr(self._scratch, "buffer", None)
        # Fresh memory for every block would cost as much as a narrow product.
        if buffer is None or buffer.dtype != dtype or buffer.numel() < size:
            buffer = torch.empty(size, dtype=dtype)
            self._scratch.buffer = buffer
        out = buffer[:size].view(len(rows), len(columns))
        with full_precision():
            return torch.mm(rows.matrix, columns.matrix.T, out=out)


class FaissBackend(Backend):
    """Single-precision blocks by faiss, on its GPU where the installed build has one.

    Double precision, seldom needed, is left to torch.
    """

    name = "faiss"
    threads = 1

    def __init__(self) -> None:
        try:
            import faiss
        except (ImportError, OSError) as error:  # OSError: CUDA's libraries
            raise InputError(
                f"backend 'faiss' needs faiss, which cannot be imported ({last_line(error)}): "
                "install ensgan[cpu] or ensgan[gpu], or take backend 'torch'"
            ) from error
        self._faiss: Any = faiss
        super().__init__()
        # faiss.knn_gpu exists in the CPU build too; the resources class does not.
        gpu = hasattr(self._faiss, "StandardGpuResources")
        with _explained():
            gpu = gpu and self._faiss.get_num_gpus() > 0
            self._resources = self._faiss.StandardGpuResources() if gpu else None
        self.device = "cuda" if gpu else "cpu"

    def operand(
        self, frame: Frame, features: FeatureArray, side: Side, precision: Precision
    ) -> Operand:
        """See :class:`Backend`."""
        if precision == "double":
            return super().operand(frame, features, side, precision)
        matrix = np.empty(features.shape, np.float32)
        return Operand(matrix, np.sqrt(_place(frame, features, matrix)), precision)

    def as_rows(self, columns: Operand) -> Operand:
        """See :class:`Backend`."""
        return columns if columns.precision == "single" else super().as_rows(columns)

    def block(self, rows: Operand, columns: Operand) -> torch.Tensor:
        """See :class:`Backend`."""
        if rows.precision == "double":
            return super().block(rows, columns)
        # faiss gives the squared distance itself, of which U is −½.
        sides = rows.matrix, columns.matrix
        if self._resources is None:
            squared = self._faiss.pairwise_distances(*sides)
        else:
            with _explained():
                squared = self._faiss.pairwise_distance_gpu(self._resources, *sides)
        return torch.from_numpy(squared).mul_(-0.5)


@contextmanager
def _explained() -> Iterator[None]:
    """What faiss says of its GPU, as one sentence."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            f"faiss fails on its GPU ({last_line(error)}): take backend 'torch', whose scores are "
            "the same"
        ) from error


def _place(frame: Frame, features: FeatureArray, into: FeatureArray) -> Float64Array:
    """Write the points in the frame, and return ‖x‖² of what was written, [n].

    Piece by piece: the float64 values between take no memory worth mentioning.
    """
    squared = np.empty(len(features))
    for start, piece in pieces(features):
        part = slice(start, start + len(piece))
        into[part] = frame.place(piece)
        np.einsum("ij,ij->i", into[part], into[part], dtype=np.float64, out=squared[part])
    return squared


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products, whatever the process has switched on (TF32, bfloat16).

    The setting is one for all threads: hold it around threads that each compute blocks.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


BACKENDS = ("auto", "faiss", "torch")


def make_backend(name: str = "auto") -> Backend:
    """The backend of that name; ``auto`` is torch, which every installation has.

    Both take the GPU when there is one that they can use. The scores do not depend on it.

    Raises:
        InputError: an unknown name, or faiss is asked for and not installed.
    """
    if name not in BACKENDS:
        raise InputError(unknown_name("backend", name, BACKENDS))
    if name == "faiss":
        return FaissBackend()
    return Backend("cuda" if torch.cuda.is_available() else None)


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

    @classmethod
    def above(cls, block: torch.Tensor, limit: Float64Array) -> Entries:
        """Entries of the block above ``limit`` ([rows,1] or [1,columns]), in row-major order.

        The limit is rounded down to the block's own floats, so that no entry above it is lost.
        """
        if np.isposinf(limit).all():  # as for a set without balls, which costs no pass
            return cls.none()
        dtype = np.float32 if block.dtype == torch.float32 else np.float64
        # Rounding to the block's floats may have raised the limit by one of them.
        floor = np.nextafter(limit.astype(dtype), dtype(-np.inf))
        # numpy compares and finds several times faster than torch on a CPU.
        host = block.numpy()
        index = np.flatnonzero(host > floor)
        values = host.ravel()[index]
        rows, columns = np.divmod(index, block.shape[1])
        return cls(rows, columns, values.astype(np.float64))
