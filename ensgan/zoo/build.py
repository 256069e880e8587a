"""From a row and the data's shape to networks and their weight files, and from networks to images.

Files are safetensors: parameters and buffers, no code, no pickle. Image i depends on weights, seed,
index and label, nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ensgan.errors import ConfigError, InputError, IntegrityError
from ensgan.files import atomic_path
from ensgan.types import ImageShape, Int64Array, UInt8Array
from ensgan.zoo.backbones import Generator, Head, HeadOutput, Trunk
from ensgan.zoo.table import GANSpec

NetworkType = TypeVar("NetworkType", bound=nn.Module)


class Discriminator(nn.Module):
    """Images and targets to everything the losses read.

    Attributes:
        trunk: images → h.
        head: h and targets → adversarial output and class evidence.
        code_head: h → InfoGAN logits; belongs to the generator's optimiser. None without codes.
    """

    def __init__(self, trunk: Trunk, head: Head, code_head: nn.Module | None) -> None:
        super().__init__()
        self.trunk, self.head, self.code_head = trunk, head, code_head

    def forward(self, images: Tensor, targets: Tensor, *, codes: bool = False) -> HeadOutput:
        """images [B, C, H, W], targets int64 [B]; ``codes``: also guess the InfoGAN codes."""
        features = self.trunk(images)
        output: HeadOutput = self.head(features, targets)
        if codes and self.code_head is not None:
            logits = self.code_head(features / self.trunk.code_divisor)
            output = dataclasses.replace(output, code_logits=logits)
        return output

    def own_parameters(self) -> list[nn.Parameter]:
        """What the discriminator's optimiser updates: all but the InfoGAN head."""
        foreign = set() if self.code_head is None else set(self.code_head.parameters())
        return [parameter for parameter in self.parameters() if parameter not in foreign]


def check_row(spec: GANSpec, shape: ImageShape, num_classes: int) -> None:
    """Refuse a row that breaks a rule for this data.

    Raises:
        ConfigError: with every broken rule.
    """
    problems = spec.problems(shape, num_classes)
    if problems:
        raise ConfigError(f"GAN {spec.name}", problems)


def build_generator(spec: GANSpec, shape: ImageShape, num_classes: int, seed: int) -> Generator:
    """A freshly initialised generator on the CPU; equal seeds give equal weights.

    Raises:
        ConfigError: the row breaks a rule for this data.
    """
    check_row(spec, shape, num_classes)
    with _seeded(seed):
        generator = spec.backbone.generator(shape, num_classes, spec.code_dim)
    if spec.info_code is not None:
        generator.code_sizes = (spec.info_code.categories,) * spec.info_code.codes
    return generator


def build_discriminator(
    spec: GANSpec, shape: ImageShape, num_classes: int, seed: int
) -> Discriminator:
    """A freshly initialised discriminator on the CPU; equal seeds give equal weights.

    Raises:
        ConfigError: the row breaks a rule for this data.
    """
    check_row(spec, shape, num_classes)
    with _seeded(seed):
        trunk = spec.backbone.trunk(shape)
        return Discriminator(trunk, *heads_of(spec, trunk.feature_dim, num_classes))


def heads_of(spec: GANSpec, feature_dim: int, num_classes: int) -> tuple[Head, nn.Module | None]:
    """Of a discriminator: what it judges by, and what guesses InfoGAN codes, if any."""
    head = spec.conditioning.head(spec.backbone, feature_dim, num_classes)
    if not spec.code_dim:
        return head, None
    return head, spec.backbone.linear(feature_dim, spec.code_dim, bias=False)


def placed(network: NetworkType, device: torch.device | str) -> NetworkType:
    """Move a network to a device, channels last: convolutions are faster so, small ones most.

    On the CPU torch 2.13 corrupts memory in the backward pass of one kind of convolution with
    channels last: 1×1, strided, from 2 to 7 channels. No backbone here has any; a new one must
    not either.
    """
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a generator's state dict, atomically.

    Raises:
        StoreError: the folder cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def load_generator(
    path: Path,
    spec: GANSpec,
    shape: ImageShape,
    num_classes: int,
    device: torch.device | str = "cpu",
) -> Generator:
    """A generator with the weights of a snapshot file, in eval mode, without gradients.

    Raises:
        IntegrityError: the file is missing, damaged, or belongs to another row or data shape.
        ConfigError: the row breaks a rule for this data.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path} is not a readable safetensors file: {error}") from error
    generator = build_generator(spec, shape, num_classes, 0)
    try:
        generator.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise IntegrityError(
            f"{path} does not hold a {spec.name} generator of this size and data shape: {reason}"
        ) from error
    return placed(generator, device).eval().requires_grad_(False)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let torch's default CPU generator follow ``seed`` for a while; its state is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


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
    _check_asked(generator, labels, seed, start)
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


def _check_asked(generator: Generator, labels: Int64Array, seed: int, start: int) -> None:
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
