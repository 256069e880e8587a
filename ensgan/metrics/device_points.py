"""Points on a card: placed there, multiplied in float16, with the bounds of the product.

For x = a + δ, y = b + η with a and b what float16 holds of x and y,

    |a·b as computed − x·y| ≤ |δ||y| + |a||η| + c|a||b|,  c = (D + 16)·2⁻²²

where |δ| and |η| are measured when a set is placed, underflow included, and c is four times the
bound of a float32 sum in any order: tensor cores truncate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ensgan.metrics.ball_counts import PlacedSet
from ensgan.metrics.features import Frame
from ensgan.types import Int64Array

_ROUNDING, _UNDERFLOW = 2.0**-11, 2.0**-25  # of a float16: relative, absolute
_SINGLE = 2.0**-24


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
class Placed:
    """Points on a device with what they are multiplied, bounded and measured by, [n] each.

    Attributes:
        raw, half: [n,D], the features, and what float16 holds of them in the frame.
        norm, loss, kept: ‖x‖, ‖x − half‖ and ‖half‖ in the frame.
        squared: of the radii, as :class:`Balls` has them; 0 for an empty ball.
        half_square: ½r² in the frame; −∞ for an empty ball.
        reach: ‖x‖ + r: nothing inside the ball is farther out.
    """

    raw: torch.Tensor
    half: torch.Tensor
    norm: torch.Tensor
    loss: torch.Tensor
    kept: torch.Tensor
    squared: torch.Tensor
    half_square: torch.Tensor
    reach: torch.Tensor

    @classmethod
    def of(cls, piece: Piece, frame: Frame, device: str) -> Placed:
        """Upload a piece and place it there."""
        points, balls = piece.points(), piece.of.balls
        raw = torch.from_numpy(np.array(piece.of.features[points])).to(device)
        placed = in_frame(raw, frame)
        half = placed.half()
        norm, kept = (torch.linalg.vector_norm(x.double(), dim=1) for x in (placed, half))
        loss = torch.linalg.vector_norm(placed - half, dim=1) * (1 + 1e-12)
        squared = torch.from_numpy(balls.squared[points]).to(device)
        radius = torch.from_numpy(piece.of.radii[points]).to(device)
        half_square = torch.where(squared > 0, 0.5 * radius**2, -torch.inf)
        return cls(raw, half, norm, loss, kept, squared, half_square, norm + radius)

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


def to_host(tensor: torch.Tensor) -> Int64Array:
    """Wait for the device: the one way back."""
    return np.asarray(tensor.cpu().numpy())


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


def terms(side: Placed, at: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What :func:`pair_bound` takes of some points."""
    return side.norm[at], side.loss[at], side.kept[at]
