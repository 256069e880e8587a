"""From a row and the data's shape to networks: what they cost, where they lie, their weight files.

Files are safetensors: parameters and buffers, no code, no pickle.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ensgan.errors import ConfigError, IntegrityError
from ensgan.files import atomic_path
from ensgan.types import ImageShape
from ensgan.zoo.augment import NoAugment
from ensgan.zoo.backbones import Backbone, Generator, Player, Trunk
from ensgan.zoo.conditioning import Head, HeadOutput
from ensgan.zoo.meta import Remembered
from ensgan.zoo.optimiser import NoAverage, Optimiser
from ensgan.zoo.spec import GANSpec

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


def _check(spec: GANSpec, shape: ImageShape, num_classes: int) -> None:
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
    _check(spec, shape, num_classes)
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
    _check(spec, shape, num_classes)
    with _seeded(seed):
        trunk = spec.backbone.trunk(shape)
        return Discriminator(trunk, *_heads(spec, trunk.feature_dim, num_classes))


def _heads(spec: GANSpec, feature_dim: int, num_classes: int) -> tuple[Head, nn.Module | None]:
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


def count_parameters(spec: GANSpec, shape: ImageShape, num_classes: int) -> tuple[int, int]:
    """Trainable parameters of the generator and of the discriminator (InfoGAN head included).

    Nothing is allocated.

    Raises:
        ConfigError: the row breaks a rule for this data.
    """
    # What has no parameters is no reason to count again: sweeps vary it.
    bare = dataclasses.replace(
        spec, name="any", augmentation=NoAugment(), optimiser=Optimiser(), ema=NoAverage()
    )
    return _counted(bare, shape, num_classes)


@functools.cache
def _counted(spec: GANSpec, shape: ImageShape, num_classes: int) -> tuple[int, int]:
    _check(spec, shape, num_classes)
    generator, trunk, feature_dim = _counted_backbone(
        spec.backbone, shape, num_classes, spec.code_dim
    )
    with torch.device("meta"), Remembered():
        heads = _heads(spec, feature_dim, num_classes)
    return generator, trunk + sum(map(_parameters, filter(None, heads)))


@functools.cache  # rows share it
def _counted_backbone(
    backbone: Backbone, shape: ImageShape, num_classes: int, code_dim: int
) -> tuple[int, int, int]:
    """Parameters of generator and trunk, and the length of the trunk's features."""
    with torch.device("meta"), Remembered():
        trunk = backbone.trunk(shape)
        generator = backbone.generator(shape, num_classes, code_dim)
    return _parameters(generator), _parameters(trunk), trunk.feature_dim


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let torch's default CPU generator follow ``seed`` for a while; its state is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


_FLOAT_BYTES = 4
_ADAM_COPIES = 4
"""Weight, gradient and Adam's two moments."""


@dataclass(frozen=True)
class Footprint:
    """Sizes of a row at a batch.

    Attributes:
        generator_parameters, discriminator_parameters: trainable, InfoGAN head in the latter.
        state_bytes: of both networks with gradients and Adam, and of the averaged generator.
        activation_bytes: what autograd keeps for one generator update, the largest graph of a
            step, in float32.
    """

    generator_parameters: int
    discriminator_parameters: int
    state_bytes: int
    activation_bytes: int

    @property
    def parameters(self) -> int:
        """Of both networks."""
        return self.generator_parameters + self.discriminator_parameters

    @property
    def training_bytes(self) -> int:
        """Estimated peak of training in float32, without workspaces."""
        return self.state_bytes + self.activation_bytes


def footprint(
    spec: GANSpec, shape: ImageShape, num_classes: int, *, batch: int | None = None
) -> Footprint:
    """Measure a row on torch's meta device, which computes and allocates nothing.

    Args:
        spec: the row.
        shape, num_classes: of the data.
        batch: instead of the row's own.

    Raises:
        ConfigError: the row breaks a rule for this data.
    """
    made, judged = count_parameters(spec, shape, num_classes)
    floats = _ADAM_COPIES * (made + judged) + (0 if isinstance(spec.ema, NoAverage) else made)
    kept = _activation_bytes(
        spec.backbone, shape, num_classes, spec.code_dim, batch or spec.optimiser.batch
    )
    return Footprint(made, judged, floats * _FLOAT_BYTES, kept)


# Rows share backbones, and each takes a good part of a second. Heads are too small to count.
@functools.cache
def _activation_bytes(
    backbone: Backbone, shape: ImageShape, num_classes: int, code_dim: int, batch: int
) -> int:
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[id(storage)] = storage
        return tensor

    with torch.device("meta"), Remembered():
        generator, trunk = backbone.generator(shape, num_classes, code_dim), backbone.trunk(shape)
        latents = torch.empty(batch, generator.latent_dim)
        labels = torch.zeros(batch, dtype=torch.int64)
        codes = torch.empty(batch, code_dim) if code_dim else None
        noise = [torch.empty(batch, 1, size, size) for size in generator.noise_sizes]
        generator.prepare(Player.GENERATOR)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            features = trunk(generator(latents, labels, codes, noise))
        del features
    # Weights are kept too, but counted with the state.
    weights = {
        id(parameter.untyped_storage())
        for network in (generator, trunk)
        for parameter in network.parameters()
    }
    return sum(storage.nbytes() for key, storage in storages.items() if key not in weights)
