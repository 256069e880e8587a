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


def affine_matrices(
    flip: Tensor,
    int_shift_x: Tensor,
    int_shift_y: Tensor,
    iso_scale: Tensor,
    pre_rotation_rad: Tensor,
    aniso_scale: Tensor,
    post_rotation_rad: Tensor,
    frac_shift_x: Tensor,
    frac_shift_y: Tensor,
) -> Tensor:
    """Output to input positions of a chain of transformations, every argument float [B].

    Positions are in pixels (x, y, 1) from the image's centre;
    M = flip · T(−integer shift) · S(1/iso) · R(pre) · S(1/aniso, aniso) · R(post) · T(−shift).

    Args:
        flip: 1 mirrors left and right, 0 does not.
        int_shift_x: whole pixels to the right.
        int_shift_y: whole pixels down.
        iso_scale: magnification.
        pre_rotation_rad: rotation before stretching.
        aniso_scale: magnification along x, divided by along y.
        post_rotation_rad: rotation after stretching.
        frac_shift_x: pixels to the right.
        frac_shift_y: pixels down.

    Returns:
        [B,3,3].
    """
    one = torch.ones_like(flip)
    matrix = _scaling(1 - 2 * flip, one)
    for factor in (
        _translation(-int_shift_x, -int_shift_y),
        _scaling(1 / iso_scale, 1 / iso_scale),
        _rotation(pre_rotation_rad),
        _scaling(1 / aniso_scale, aniso_scale),
        _rotation(post_rotation_rad),
        _translation(-frac_shift_x, -frac_shift_y),
    ):
        matrix = matrix @ factor
    return matrix


def warp(images: Tensor, matrices: Tensor, margins: tuple[int, int] | None = None) -> Tensor:
    """Transform each image by its own matrix.

    Args:
        images: [B,C,H,W].
        matrices: output to input positions, [B,3,3], as :func:`affine_matrices` makes them.
        margins: pixels of reflection to add above and below, left and right. By default as many
            as the matrices need; on an accelerator, where looking at them would stall the host,
            as many as there are. The result is the same.

    Returns:
        [B,C,H,W].
    """
    height, width = images.shape[2:]
    if margins is not None or images.device.type != "cpu":
        return _resample(images, matrices, margins or (height - 1, width - 1))
    identity = torch.eye(3, dtype=matrices.dtype)
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
    far_x, far_y, _ = (matrices @ corners).abs().amax(dim=(0, 2)).tolist()

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
    doubled = rows @ images @ columns.t()
    sampled_height, sampled_width = (2 * (size + _SLACK) for size in (height, width))
    # In doubled pixels translations double; the filter's centre lies half a pixel off the grid.
    linear = matrices[:, :2, :2]
    shift = 2 * matrices[:, :2, 2] + 0.5 * linear.sum(dim=2) - 0.5
    # From pixels to the unit square that affine_grid works in, without leaving the device.
    columns_of_theta = (linear[..., 0] * sampled_width, linear[..., 1] * sampled_height, 2 * shift)
    theta_x, theta_y = torch.stack(columns_of_theta, dim=2).unbind(dim=1)
    theta = torch.stack([theta_x / doubled.shape[3], theta_y / doubled.shape[2]], dim=1)
    shape = [len(images), images.shape[1], sampled_height, sampled_width]
    grid = functional.affine_grid(theta.to(dtype), shape, align_corners=False)
    sampled = cast(Tensor, _BilinearSampling.apply(doubled, grid))  # type: ignore[no-untyped-call]
    down, across = (_halving_matrix(size, dtype, device) for size in (height, width))
    return down @ sampled @ across.t()


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
# training whoever asked first.
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


def _stacked(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _stacked([[x, zero, zero], [zero, y, zero], [zero, zero, one]])


def _translation(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _stacked([[one, zero, x], [zero, one, y], [zero, zero, one]])


def _rotation(angle: Tensor) -> Tensor:
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    cos, sin = angle.cos(), angle.sin()
    return _stacked([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]])
