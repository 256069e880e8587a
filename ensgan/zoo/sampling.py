"""Images from a generator: image i depends on weights, seed, index and label, nothing else."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ensgan.errors import InputError
from ensgan.types import Int64Array, UInt8Array
from ensgan.zoo.backbones import Generator

SAMPLING_REVISION = 2
"""Raise it when a change of this package makes other images of the same weights."""
SAMPLING_CHUNK = 32
"""Images per forward. Fixed, and every chunk is full, because the order of floating-point sums
may depend on the batch size; image i always sits at place i mod 32."""


def sample(generator: Generator, labels: Int64Array, *, seed: int, start: int = 0) -> UInt8Array:
    """Make one image per label.

    Image j is number ``start + j`` of the endless series that ``seed`` names: its latents, codes
    and noise come from a counter-based generator keyed by (seed, number), so a longer or shorter
    call, or another split into calls, gives the same images.

    Args:
        generator: put in eval mode (running statistics, frozen spectral norm) for the call.
        labels: int64 [n], classes 0…K-1.
        seed: 0 ≤ seed < 2⁶⁴.
        start: number of the first image.

    Returns:
        uint8 [n, H, W] or [n, H, W, C], floor(clip(255·(x + 1)/2 + ½, 0, 255)).

    Raises:
        InputError: a label, the seed or the start is out of range.
    """
    labels = np.asarray(labels, dtype=np.int64)
    _check(generator, labels, seed, start)
    n, shape = len(labels), generator.shape
    images = np.empty((n, shape.size, shape.size, shape.channels), dtype=np.uint8)
    was_training = generator.training
    generator.eval()
    try:
        for first in range(start - start % SAMPLING_CHUNK, start + n, SAMPLING_CHUNK):
            low, high = max(first, start), min(first + SAMPLING_CHUNK, start + n)
            places = slice(low - first, high - first)
            chunk = _chunk(generator, labels[low - start : high - start], seed, low, places)
            images[low - start : high - start] = chunk
    finally:
        generator.train(was_training)
    return images[..., 0] if shape.channels == 1 else images


def _chunk(
    generator: Generator, labels: Int64Array, seed: int, number: int, places: slice
) -> UInt8Array:
    """The images at ``places`` of one full chunk, uint8 [len(labels), H, W, C]."""
    device = next(generator.parameters()).device
    chunk_labels = np.zeros(SAMPLING_CHUNK, dtype=np.int64)
    chunk_labels[places] = labels
    latents = np.zeros((SAMPLING_CHUNK, generator.latent_dim), dtype=np.float32)
    code = np.zeros((SAMPLING_CHUNK, generator.code_dim), dtype=np.float32)
    noise = [
        np.zeros((SAMPLING_CHUNK, 1, size, size), dtype=np.float32)
        for size in generator.noise_sizes
    ]
    for place in range(places.start, places.stop):
        key = np.array([seed, number + place - places.start], dtype=np.uint64)
        source = np.random.Generator(np.random.Philox(key=key))
        latents[place] = source.standard_normal(generator.latent_dim, dtype=np.float32)
        offset = 0  # one-hot codes lie one after another
        for categories in generator.code_sizes:
            code[place, offset + int(source.integers(categories))] = 1.0
            offset += categories
        for plane in noise:
            source.standard_normal(dtype=np.float32, out=plane[place])

    def move(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        return torch.from_numpy(array).to(device)

    with torch.inference_mode():
        made = generator(
            move(latents),
            move(chunk_labels),
            move(code) if generator.code_dim else None,
            [move(plane) for plane in noise],
        )
        return quantise(made[places]).permute(0, 2, 3, 1).cpu().numpy()


def quantise(images: Tensor) -> Tensor:
    """float around [-1, 1] → uint8, floor(clip(255·(x + 1)/2 + ½, 0, 255))."""
    return (255 * (images.float() + 1) / 2 + 0.5).clamp(0, 255).floor().to(torch.uint8)


def _check(generator: Generator, labels: Int64Array, seed: int, start: int) -> None:
    if labels.ndim != 1:
        raise InputError(f"labels must be one row of class indices, not shape {labels.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < generator.num_classes:
        wrong = labels[(labels < 0) | (labels >= generator.num_classes)][0]
        raise InputError(
            f"label {wrong} is not a class of this generator: use 0 to {generator.num_classes - 1}"
        )
    if not 0 <= seed < 2**64:
        raise InputError(f"the seed must be between 0 and 2^64 - 1, not {seed}")
    if not 0 <= start < 2**63:
        raise InputError(f"start must be 0 or more, not {start}")
