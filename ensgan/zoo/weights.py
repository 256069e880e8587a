"""Generator weights as safetensors files: parameters and buffers, no code, no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ensgan.errors import IntegrityError
from ensgan.files import atomic_path
from ensgan.types import ImageShape
from ensgan.zoo.backbones.base import Generator
from ensgan.zoo.build import build_generator, placed
from ensgan.zoo.spec import GANSpec


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
    expected = {name: tuple(value.shape) for name, value in generator.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if expected != found:
        differing = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        raise IntegrityError(
            f"{path} does not hold a {spec.name} generator of this size and data shape: "
            f"{len(differing)} tensors differ, e.g. {differing[0]}"
        )
    generator.load_state_dict(state)
    return placed(generator, device).eval().requires_grad_(False)
