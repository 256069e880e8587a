"""What a row costs: parameters and training memory, without training it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ensgan.types import ImageShape
from ensgan.zoo.backbones.base import Backbone, Player
from ensgan.zoo.build import count_parameters
from ensgan.zoo.optimiser import NoAverage
from ensgan.zoo.spec import GANSpec

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
@functools.lru_cache(maxsize=None)  # sizes of a thousand configurations
def _activation_bytes(
    backbone: Backbone, shape: ImageShape, num_classes: int, code_dim: int, batch: int
) -> int:
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[id(storage)] = storage
        return tensor

    with torch.device("meta"):
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
