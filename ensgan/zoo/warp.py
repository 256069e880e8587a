"""Smooth geometric warping of images (Karras et al. 2020b, appendix B).

Reflect-pad, double the resolution with the sym6 wavelet's low-pass filter, sample bilinearly at
the transformed positions, halve the resolution with the same filter reversed. Every operation is
linear in the image, and gradients can be differentiated again (R1 passes through it).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

# Low-pass filter of Daubechies' least asymmetric wavelet with 6 vanishing moments (sum √2).
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
_TAPS = len(SYM6)
_HALF_REACH = _TAPS // 4  # the filter reaches 3 pixels to each side at the image's own resolution
_SLACK = 2 * _HALF_REACH


MOVES = (
    "mirrored",
    "left",
    "up",
    "first_turn",
    "log2_shrinking",
    "second_turn",
    "log2_stretch",
    "then_left",
    "then_up",
)
"""Rows of the table that :func:`affine_matrices` reads; 0 everywhere leaves an image alone."""


def affine_matrices(table: Tensor) -> Tensor:
    """Output to input positions of a chain of transformations, in closed form.

    Positions are in pixels (x, y, 1) from the image's centre;
    M = flip · T(−integer shift) · S(1/iso) · R(pre) · S(1/aniso, aniso) · R(post) · T(−shift).
    With m ± d = the two stretching factors, R(p)·diag(m + d, m − d)·R(q) is
    m·R(p + q) + d·R(p − q)·diag(1, −1): no chain of products, and exactly 1 where nothing moves.

    Args:
        table: float [9, B], rows as :data:`MOVES`: 1 where mirrored left and right, else 0; whole
            pixels to the left and up; rotation before stretching in radians; −log₂ of the
            magnification; rotation after stretching; log₂ of the magnification along x, which
            divides y; pixels to the left and up, applied first.

    Returns:
        The upper two rows of M, [B, 2, 3].
    """
    mirror = torch.rsub(table[0], 1, alpha=2)
    first, second = table[3:5], table[5:7]
    angles, exponents = torch.stack([first + second, first - second], dim=1)
    factors = exponents.exp2()
    middle = factors.mean(dim=0)
    sizes = torch.stack([middle, middle - factors[0]])
    cos, sin = sizes * angles.cos(), sizes * angles.sin()
    entries = (cos[0] + cos[1], sin[1] - sin[0], sin[0] + sin[1], cos[0] - cos[1])
    linear = torch.stack(entries).view(2, 2, -1)
    linear[0].mul_(mirror)
    shift = (linear * table[7:9]).sum(dim=1)
    shift[0].addcmul_(mirror, table[1])
    shift[1].add_(table[2])
    return torch.cat([linear, shift[:, None]], dim=1).permute(2, 0, 1)


def warp(images: Tensor, matrices: Tensor, margins: tuple[int, int] | None = None) -> Tensor:
    """Transform each image by its own matrix.

    Args:
        images: [B,C,H,W].
        matrices: output to input positions, [B,2,3], as :func:`affine_matrices` makes them.
        margins: pixels of reflection to add above and below, left and right. By default as many
            as the matrices need; on an accelerator, where looking at them would stall the host,
            as many as there are. The result is the same.

    Returns:
        [B,C,H,W].
    """
    height, width = images.shape[2:]
    if margins is not None or images.device.type != "cpu":
        return _resample(images, matrices, margins or (height - 1, width - 1))
    identity = torch.eye(3, dtype=matrices.dtype)[:2]
    changed = (matrices != identity).flatten(1).any(dim=1).nonzero().squeeze(1)
    if len(changed) == 0:
        return images
    chosen = matrices[changed]
    margins = needed_margins(chosen, height, width)
    if len(changed) == len(images):
        return _resample(images, chosen, margins)
    # Without a transformation the filters cancel exactly: leave those images out.
    return images.index_copy(0, changed, _resample(images[changed], chosen, margins))


def needed_margins(matrices: Tensor, height: int, width: int) -> tuple[int, int]:
    """Pixels of reflection by which the transformed corners (and the filters) overhang."""
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    corners = matrices.new_tensor(
        [
            [-centre_x, centre_x, centre_x, -centre_x],
            [-centre_y, -centre_y, centre_y, centre_y],
            [1.0, 1.0, 1.0, 1.0],
        ]
    )
    far_x, far_y = (matrices @ corners).abs().amax(dim=(0, 2)).tolist()

    def margin(far: float, centre: float, size: int) -> int:
        return min(max(math.ceil(far - centre + _SLACK), 0), size - 1)

    return margin(far_y, centre_y, height), margin(far_x, centre_x, width)


def _resample(images: Tensor, matrices: Tensor, margins: tuple[int, int]) -> Tensor:
    height, width = images.shape[2:]
    dtype, device = images.dtype, images.device
    rows, columns = (
        _doubling_matrix(size, margin, dtype, device)
        for size, margin in zip((height, width), margins, strict=True)
    )
    doubled = _both_sides(rows, images, columns)
    sampled_height, sampled_width = (2 * (size + _SLACK) for size in (height, width))
    # The sampling reads positions in halves of the doubled image's sides.
    sides = (doubled.shape[3], doubled.shape[2])
    inverse, offset = _inverse_sides(sides, dtype, device)
    positions = _positions(sampled_height, sampled_width, dtype, device)
    grid = torch.baddbmm(
        offset, positions.expand(len(images), -1, -1), (matrices.to(dtype) * inverse).mT
    ).view(len(images), sampled_height, sampled_width, 2)
    sampled = cast(Tensor, _BilinearSampling.apply(doubled, grid))  # type: ignore[no-untyped-call]
    down, across = (_halving_matrix(size, dtype, device) for size in (height, width))
    return _both_sides(down, sampled, across)


def _both_sides(rows: Tensor, images: Tensor, columns: Tensor) -> Tensor:
    """rows · image · columnsᵀ of every channel, without copies of the two matrices."""
    planes = images.flatten(0, 1) @ columns.t()
    made = torch.bmm(rows.expand(len(planes), -1, -1), planes)
    return made.view(*images.shape[:2], *made.shape[1:])


class _BilinearSampling(torch.autograd.Function):
    """Bilinear sampling, zero outside. It is linear in the image, so its gradient is the adjoint
    operation, whose gradient is the sampling again: PyTorch's own has no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return functional.grid_sample(images, grid, align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (grid,) = ctx.saved_tensors
        return _BilinearSpreading.apply(gradients[0], grid, ctx.shape), None  # type: ignore[no-untyped-call]


class _BilinearSpreading(torch.autograd.Function):
    """The adjoint of :class:`_BilinearSampling`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        spread, _ = torch.ops.aten.grid_sampler_2d_backward(
            values.contiguous(), values.new_empty(shape), grid, 0, 0, False, [True, False]
        )
        return cast(Tensor, spread)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (grid,) = ctx.saved_tensors
        return _BilinearSampling.apply(gradients[0], grid), None, None  # type: ignore[no-untyped-call]


# The matrices are pure functions of their arguments. Leaving inference mode makes them usable in
# training, also where sampling asked for them first.
@lru_cache(maxsize=128)
@torch.inference_mode(False)
def _doubling_matrix(size: int, margin: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Reflect-pad by ``margin``, insert zeros, filter with gain 2: [2·(size+2·margin), size]."""
    padded = size + 2 * margin
    matrix = torch.zeros(2 * padded, size, dtype=torch.float64)
    for source in range(padded):
        position = abs(source - margin)
        original = min(position, 2 * (size - 1) - position)
        for tap, weight in enumerate(SYM6):
            target = 2 * source + tap - (_TAPS // 2 - 1)
            if 0 <= target < 2 * padded:
                matrix[target, original] += weight * math.sqrt(2)
    return matrix.to(device=device, dtype=dtype)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _halving_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Filter (reversed) and keep every second value, cropped: [size, 2·(size+6)]."""
    matrix = torch.zeros(size, 2 * (size + _SLACK), dtype=torch.float64)
    for target in range(size):
        first = 2 * (target + _HALF_REACH) - (_TAPS // 2 - 1)
        matrix[target, first : first + _TAPS] = torch.tensor(SYM6, dtype=torch.float64)
    return (matrix / math.sqrt(2)).to(device=device, dtype=dtype)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _positions(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What a row of a matrix is multiplied with for each sampled pixel, [1, height·width, 3].

    In doubled pixels translations double; the filter's centre lies half a pixel off the grid.
    """
    across = 2 * torch.arange(width, dtype=torch.float64) + 2 - width
    down = 2 * torch.arange(height, dtype=torch.float64) + 2 - height
    rows, columns = torch.meshgrid(down, across, indexing="ij")
    table = torch.stack([columns, rows, torch.full_like(rows, 4.0)], dim=-1)
    return table.reshape(1, -1, 3).to(device=device, dtype=dtype)


@lru_cache(maxsize=128)
@torch.inference_mode(False)
def _inverse_sides(
    sides: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """1/side as [2, 1], and −1/side as [1, 1, 2] (the half pixel of the grid), for x and y."""
    inverse = 1 / torch.tensor(sides, dtype=torch.float64)
    return (
        inverse[:, None].to(device=device, dtype=dtype),
        -inverse[None, None].to(device=device, dtype=dtype),
    )
