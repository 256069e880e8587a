"""Points on a card: placed there, multiplied in float16, with the bounds of the product.

For x = a + δ, y = b + η with a and b what float16 holds of x and y,

    |a·b as computed − x·y| ≤ |δ||y| + |a||η| + c|a||b|,  c = (D + 16)·2⁻²²

where |δ| and |η| are measured when a set is placed, underflow included, and c is four times the
bound of a float32 sum in any order: tensor cores truncate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from ensgan.metrics.ball_counts import PlacedSet
from ensgan.metrics.features import FeatureArray, Frame
from ensgan.metrics.knn import relative_bound
from ensgan.types import Int64Array

_T = TypeVar("_T")

Key: TypeAlias = tuple[int, str, int, int]
"""A set, which of its balls, and its places, from and to."""

_ROUNDING, _UNDERFLOW = 2.0**-11, 2.0**-25  # of a float16: relative, absolute
_SINGLE = 2.0**-24
ENTRY_BYTES = 48
"""Memory for an entry of a product, with what comes of it."""
_LEAST_BYTES = 1 << 22
_LARGEST_TILE = 1 << 26


@dataclass
class CardMemory:
    """Memory to take on a card, and what happens when the card runs out of it.

    Attributes:
        device: the card.
        bytes: to take at most; 0 when the card is given up.
        tell: called with one sentence at every step down.
        placed: sets that stay there, by what they are; given up first.
    """

    device: str
    bytes: int
    tell: Callable[[str], None]
    placed: dict[Key, Placed] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        """Entries of a product to hold at a time."""
        return min(max(1, self.bytes // ENTRY_BYTES), 1 << 30)  # kernels count in int32

    @cached_property
    def room(self) -> int:
        """Bytes for sets that may be needed again: half of the memory, or a quarter of the card's.

        Uploading a set anew for every group of pairs takes longer than its products do.
        """
        if not self.device.startswith("cuda"):
            return self.bytes // 2
        free, _ = torch.cuda.mem_get_info(self.device)
        return int(max(self.bytes // 2, free // 4))

    def keep(self, key: Key, placed: Placed, *, needed: bool) -> None:
        """Let a set stay, where there is room or it is surely needed again."""
        taken = sum(each.nbytes for each in self.placed.values())
        if needed or taken + placed.nbytes <= self.room:
            self.placed[key] = placed

    def run(self, work: Callable[[], _T]) -> _T | None:
        """What ``work`` gives, tried again with less memory; None: the CPU has to do it."""
        while self.bytes:
            try:
                return work()
            except torch.cuda.OutOfMemoryError:
                self.placed.clear()
                torch.cuda.empty_cache()
                if self.room:  # sets that only may be needed again are given up first
                    self.room = 0
                    continue
                less = min(self.bytes, ENTRY_BYTES * _LARGEST_TILE) // 4
                self.bytes = less if less >= _LEAST_BYTES else 0
                how = "smaller groups of pairs" if self.bytes else "going on on the CPU"
                self.tell(f"the GPU ran out of memory while scoring: {how}")
        return None


@dataclass(frozen=True)
class Piece:
    """Consecutive places of one set; ``number`` of the set among the rows."""

    of: PlacedSet
    places: slice
    number: int

    def __len__(self) -> int:
        return int(self.places.stop - self.places.start)

    def points(self, places: Int64Array | None = None) -> slice | Int64Array:
        """Which points of the set they are, or some of them."""
        return self.of.points(self.places if places is None else self.places.start + places)


@dataclass(frozen=True)
class Points:
    """Points on a device with what they are multiplied, bounded and measured by, [n] each.

    Attributes:
        raw, half: [n,D], the features, and what float16 holds of them in the frame.
        norm, loss, kept: ‖x‖, ‖x − half‖ and ‖half‖ in the frame.
    """

    raw: torch.Tensor
    half: torch.Tensor
    norm: torch.Tensor
    loss: torch.Tensor
    kept: torch.Tensor

    @classmethod
    def at(cls, features: FeatureArray, frame: Frame, device: str) -> Points:
        """Upload points and place them there."""
        raw = torch.from_numpy(np.array(features)).to(device)
        placed = in_frame(raw, frame)
        half = placed.half()
        norm, kept = (torch.linalg.vector_norm(x.double(), dim=1) for x in (placed, half))
        loss = torch.linalg.vector_norm(placed - half, dim=1) * (1 + 1e-12)
        return cls(raw, half, norm, loss, kept)

    def __len__(self) -> int:
        return len(self.norm)

    @property
    def nbytes(self) -> int:
        """What they take of the device's memory."""
        return sum(each.nbytes for each in vars(self).values())

    def some(self, which: torch.Tensor) -> Points:
        """Those at some places."""
        return Points(*(each[which] for each in vars(self).values()))

    def terms(self, which: slice | torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What :func:`pair_bound` takes of some points."""
        return self.norm[which], self.loss[which], self.kept[which]


@dataclass(frozen=True)
class Placed(Points):
    """Points with their balls, [n] each.

    Attributes:
        squared: of the radii, as :class:`Balls` has them; 0 for an empty ball.
        half_square: ½r² in the frame; −∞ for an empty ball.
        reach: ‖x‖ + r: nothing inside the ball is farther out.
    """

    squared: torch.Tensor
    half_square: torch.Tensor
    reach: torch.Tensor

    @classmethod
    def of(cls, piece: Piece, frame: Frame, device: str) -> Placed:
        """Upload a piece and place it there."""
        which = piece.points()
        at = Points.at(piece.of.features[which], frame, device)
        squared = torch.from_numpy(piece.of.balls.squared[which]).to(device)
        radius = torch.from_numpy(piece.of.radii[which]).to(device)
        half_square = torch.where(squared > 0, 0.5 * radius**2, -torch.inf)
        placed = (at.raw, at.half, at.norm, at.loss, at.kept)
        return cls(*placed, squared, half_square, at.norm + radius)

    @classmethod
    def joined(cls, parts: Sequence[Placed]) -> Placed:
        """Side by side; raw features in the widest of their types."""
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(torch.cat(tensors) for tensors in columns))

    def limits(self, dim: int) -> torch.Tensor:
        """Float32 [n]: no U = −½‖x−y‖² up to it, as the product gives it, is inside the ball."""
        # For y inside, ‖y‖ is at most the reach, and what float16 loses of y is bounded by ‖y‖.
        loss = _ROUNDING * self.reach + dim**0.5 * _UNDERFLOW
        error = pair_bound(
            dim, self.norm, self.loss, self.kept, self.reach, loss, self.reach + loss
        )
        limit = (-self.half_square - error).float()
        return torch.nextafter(limit, torch.full_like(limit, -torch.inf))


def in_frame(raw: torch.Tensor, frame: Frame) -> torch.Tensor:
    """Points in the frame, float64, as :meth:`Frame.place` does it."""
    centre = torch.from_numpy(frame.centre).to(raw.device)
    return (raw.double() - centre) * 2.0**-frame.exponent


def pair_bound(
    dim: int,
    norm: torch.Tensor,
    loss: torch.Tensor,
    kept: torch.Tensor,
    other_norm: torch.Tensor,
    other_loss: torch.Tensor,
    other_kept: torch.Tensor,
) -> torch.Tensor:
    """Bound on the error of U for pairs of points (see above), elementwise."""
    total = loss * other_norm + kept * other_loss + (dim + 16) * 2.0**-22 * kept * other_kept
    # The halves of two squared norms are rounded to float32 and taken off one after another.
    error = total + 4 * _SINGLE * (norm + other_norm) ** 2
    return error * (1 + 1e-9) + dim * 2.0**-110


def product(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """rows · columnsᵀ, summed in float32 (float64 for float64)."""
    if rows.dtype == torch.float16 and rows.device.type == "cuda":
        return torch.mm(rows, columns.T, out_dtype=torch.float32)
    wide = torch.float32 if rows.dtype == torch.float16 else rows.dtype
    return torch.mm(rows.to(wide), columns.to(wide).T)


def block(rows: Points, columns: Points, frame: Frame, *, exactly: bool) -> torch.Tensor:
    """U [rows,columns], by a product of float16, or of float64."""
    if exactly:
        result = product(in_frame(rows.raw, frame), in_frame(columns.raw, frame))
    else:
        result = product(rows.half, columns.half)
    for side, shape in ((rows, (-1, 1)), (columns, (1, -1))):
        result.sub_((0.5 * side.norm**2).to(result.dtype).view(shape))
    return result


def error_of(
    dim: int, rows: tuple[torch.Tensor, ...], columns: tuple[torch.Tensor, ...], *, exactly: bool
) -> torch.Tensor:
    """Bound on the error of a :func:`block` from :meth:`Points.terms`, elementwise."""
    if not exactly:
        return pair_bound(dim, *rows, *columns)
    return relative_bound(dim, "double") * (rows[0] + columns[0]) ** 2 + dim * 2.0**-960


def measured(
    rows: torch.Tensor, columns: torch.Tensor, i: torch.Tensor, j: torch.Tensor, memory_bytes: int
) -> torch.Tensor:
    """‖rows[i] − columns[j]‖² as float64 sums of squares, [pairs]."""
    step = max(1, memory_bytes // (64 * rows.shape[1]))
    parts = [slice(start, start + step) for start in range(0, max(1, len(i)), step)]
    differences = (rows[i[at]].double() - columns[j[at]].double() for at in parts)
    return torch.cat([each.square_().sum(1) for each in differences])


def to_host(tensor: torch.Tensor) -> Any:
    """Copy to the host, which waits for the device."""
    return tensor.cpu().numpy()


def cut(sets: Sequence[PlacedSet], label: int, most: int) -> Iterator[list[Piece]]:
    """The points of a class of some sets, ``most`` together; a set is cut only if it is larger."""
    group: list[Piece] = []
    for number, one in enumerate(sets):
        begin, end = one.starts[label : label + 2]
        for start in range(begin, end, most):
            piece = Piece(one, slice(start, min(start + most, end)), number)
            if group and sum(map(len, group)) + len(piece) > most:
                yield group
                group = []
            group.append(piece)
    if group:
        yield group
