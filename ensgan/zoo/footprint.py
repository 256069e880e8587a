"""What the networks of a row take: parameters and memory, counted on torch's meta device.

The device computes nothing and still needs Python for shapes, which are therefore remembered.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ensgan.types import ImageShape
from ensgan.zoo.augment import NoAugment
from ensgan.zoo.backbones import Backbone, Player
from ensgan.zoo.build import check_row, heads_of
from ensgan.zoo.parts import NoAverage, Optimiser
from ensgan.zoo.table import GANSpec


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
    check_row(spec, shape, num_classes)
    generator, trunk, feature_dim = _counted_backbone(
        spec.backbone, shape, num_classes, spec.code_dim
    )
    with torch.device("meta"), Remembered():
        heads = heads_of(spec, feature_dim, num_classes)
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


Remake: TypeAlias = Callable[[tuple[Any, ...]], Any]
"""From the arguments of an operation to what it gives."""
_known: dict[Any, tuple[Remake | None, Any]] = {}


class Remembered(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Works out the results of an operation on meta tensors once for the shapes of its arguments.

    The rows of the zoo do the same to the same shapes again and again.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Without this, torch imports its compiler at the first operation, which takes seconds."""
        return False

    def note(self, func: Any, args: tuple[Any, ...], made: Any) -> Any:
        """What else to remember of an operation; ``made`` is its result."""

    def repeat(self, noted: Any) -> None:
        """Called for each operation that is no view, with what :meth:`note` returned for such."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func.is_view:
            return func(*args, **(kwargs or {}))
        seen: dict[int, int] = {}
        given = tuple([(name, _key(value, seen)) for name, value in (kwargs or {}).items()])
        key = type(self), func, _key(args, seen), given
        remake, noted = _known.get(key, (None, None))
        if remake is None:
            made = func(*args, **(kwargs or {}))
            # What is made once, filters and the order of the reals, is made on the CPU.
            if not all(tensor.is_meta for tensor in tensors((args, made))):
                return made
            noted = self.note(func, args, made)
            _known[key] = _remake(func, args, made), noted
        else:
            made = remake(args)
        self.repeat(noted)
        return made


def _key(value: Any, seen: dict[int, int]) -> Any:
    """Of an argument: shapes of tensors, and which of them are the same one."""
    if isinstance(value, Tensor):
        number = seen.setdefault(id(value), len(seen))
        return value.shape, value.stride(), value.dtype, value.is_meta, number
    if isinstance(value, list | tuple):
        return tuple([_key(part, seen) for part in value])
    return value.__class__, value


def _remake(func: Any, args: tuple[Any, ...], made: Any) -> Remake | None:
    """How to make results like ``made`` again; None where that is left to torch."""
    if func._schema.is_mutable:
        if made is None:
            return lambda args: None
        return (lambda args: args[0]) if args and made is args[0] else None
    if isinstance(made, Tensor):
        shape, stride, dtype = made.shape, made.stride(), made.dtype
        return lambda args: torch.empty_strided(shape, stride, dtype=dtype, device="meta")
    if isinstance(made, list | tuple):
        parts = [_remake(func, args, part) for part in made]
        kind = type(made)
        if kind in (list, tuple) and None not in parts:
            return lambda args: kind(part(args) for part in parts if part)
    return None


def tensors(value: Any) -> list[Tensor]:
    """Those of an operation's arguments and results, which are lists at most."""
    # torch's own tree_leaves took a fifth of the time of counting.
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in tensors(part)]
    return []
