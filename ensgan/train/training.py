"""Everything that changes while a GAN trains, and how it is saved and restored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ensgan.precision import arithmetic, mixed
from ensgan.train.settings import TrainSettings, keep_freed_memory
from ensgan.train.updates import AveragedGenerator, FusedAdam
from ensgan.types import Samples
from ensgan.zoo.backbones import Generator, HeadOutput, Player
from ensgan.zoo.backbones.effective import EffectiveWeights
from ensgan.zoo.build import Discriminator, build_discriminator, build_generator, placed
from ensgan.zoo.table import GANSpec


@dataclass(frozen=True)
class Fakes:
    """A generated batch.

    Attributes:
        images: float32 [B, C, H, W].
        labels: int64 [B], the classes asked for.
        codes: int64 [B, n] InfoGAN codes, None without.
    """

    images: Tensor
    labels: Tensor
    codes: Tensor | None


class Training:
    """Networks, optimisers, data order and random state of one GAN.

    Attributes:
        step: steps completed.
    """

    def __init__(
        self, spec: GANSpec, reals: Samples, num_classes: int, settings: TrainSettings
    ) -> None:
        seeds = np.random.SeedSequence(settings.seed).generate_state(4, np.uint64) >> 1
        generator_seed, discriminator_seed, order_seed, draw_seed = (int(seed) for seed in seeds)
        settings = settings.settled(None)
        self.spec, self.settings, self.num_classes = spec, settings, num_classes
        self.device = torch.device(settings.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.optimiser = settings.optimiser(spec)
        self.batch = self.optimiser.batch
        # Weights are drawn on the CPU, equal on every device; meta has none.
        with torch.device("meta" if self.device.type == "meta" else "cpu"):
            generator = build_generator(spec, reals.shape, num_classes, generator_seed)
            discriminator = build_discriminator(spec, reals.shape, num_classes, discriminator_seed)
        self.generator: Generator = placed(generator, self.device)
        self.discriminator: Discriminator = placed(discriminator, self.device)
        self.generator_weights = EffectiveWeights(self.generator)
        self.discriminator_weights = EffectiveWeights(self.discriminator)
        self.average = AveragedGenerator(self.generator, settings.average(spec), self.batch)
        self.own_parameters = self.discriminator.own_parameters()
        code_head = self.discriminator.code_head
        code_parameters = [] if code_head is None else list(code_head.parameters())
        self.generator_adam = FusedAdam(
            [*self.generator.parameters(), *code_parameters], self.optimiser.generator
        )
        self.discriminator_adam = FusedAdam(self.own_parameters, self.optimiser.discriminator)
        basket = self.batch * self.optimiser.d_updates_per_step
        self.reals = Reals(reals, basket, order_seed, self.device)
        # The meta device has no generator, and draws nothing.
        on_meta = self.device.type == "meta"
        self.random = torch.Generator("cpu" if on_meta else self.device).manual_seed(draw_seed)
        self.augmentation = spec.augmentation
        self.augment_state = spec.augmentation.initial_state(self.device)
        self.step = 0
        self._generate: Callable[..., Tensor] = self.generator
        self._discriminate: Callable[..., HeadOutput] = self.discriminator
        if settings.compile is True:
            self._generate = torch.compile(self.generator)
            self._discriminate = torch.compile(self.discriminator)

    def fakes(self, player: Player) -> Fakes:
        """A fresh batch from the generator, for that player's update."""
        n, generator, random = self.batch, self.generator, self.random
        latents = torch.randn(n, generator.latent_dim, generator=random, device=self.device)
        labels = self._fake_labels()
        codes = one_hot_codes = None
        if self.spec.info_code is not None:
            part = self.spec.info_code
            shape = (n, part.codes)
            codes = torch.randint(part.categories, shape, generator=random, device=self.device)
            one_hot_codes = torch.nn.functional.one_hot(codes, part.categories).flatten(1).float()
        noise = [
            torch.randn(n, 1, size, size, generator=random, device=self.device)
            for size in generator.noise_sizes
        ]
        generator.prepare(player)
        with self.generator_weights.ready(), mixed(self.settings.precision, self.device):
            images = self._generate(latents, labels, one_hot_codes, noise)
        return Fakes(images.float(), labels, codes)

    def _fake_labels(self) -> Tensor:
        """Labels of a batch of fakes, int64 [batch]."""
        shape, random, device = (self.batch,), self.random, self.device
        if self.settings.fake_labels == "uniform":
            return torch.randint(self.num_classes, shape, generator=random, device=device)
        known = self.reals.labels
        return known[torch.randint(len(known), shape, generator=random, device=device)]

    def draw_reals(self) -> tuple[Tensor, Tensor]:
        """The next basket: float32 images in [-1, 1] and labels int64."""
        images, labels = self.reals.draw()
        return to_range(images), labels

    def augment(self, images: Tensor) -> Tensor:
        """The row's augmentation with fresh draws."""
        return self.augmentation.apply(images, self.augment_state, self.random)

    def discriminate(
        self, images: Tensor, targets: Tensor, *, codes: bool = False, twice: bool = False
    ) -> HeadOutput:
        """The discriminator's output in float32; ``twice``: differentiable twice."""
        # A compiled graph has no second derivative.
        forward = self.discriminator if twice else self._discriminate
        with self.discriminator_weights.ready(), mixed(self.settings.precision, self.device):
            output: HeadOutput = forward(images, targets, codes=codes)
        return output if self.settings.precision != "bfloat16" else _in_float32(output)

    def kind(self) -> Hashable:
        """What the next step does, as far as it is decided without looking at tensors."""
        adjusts = self.augmentation.adjusts(self.step)
        return self.regularized(), adjusts, self.average.kind(self.step)

    def regularized(self) -> tuple[bool, ...]:
        """Which regularizers follow which discriminator update of the next step."""
        updates = self.optimiser.d_updates_per_step
        return tuple(
            regularizer.due(updates * self.step + index)
            for regularizer in self.spec.regularizers
            for index in range(updates)
        )

    def arithmetic(self) -> AbstractContextManager[None]:
        """The number formats of this training, around each of its steps."""
        precision = self.settings.precision
        assert precision != "auto"
        return arithmetic(precision, self.device, tunes=self.settings.tunes)

    def observe(self, output: HeadOutput) -> None:
        """Tell the augmentation's controller about reals."""
        self.augmentation.observe(output.adversarial.detach(), self.augment_state)

    def state_dict(self) -> dict[str, Any]:
        """All of it: tensors, numbers and nested dicts only."""
        return {
            "step": self.step,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.generator.state_dict() if self.average.follows else {},
            "generator_adam": self.generator_adam.state_dict(),
            "discriminator_adam": self.discriminator_adam.state_dict(),
            "reals": self.reals.state_dict(),
            "random": self.random.get_state(),
            "augment": dict(self.augment_state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where :meth:`state_dict` was taken."""
        self.step = int(state["step"])
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        if self.average.follows:
            self.average.generator.load_state_dict(state["average"])
        self.generator_adam.load_state_dict(state["generator_adam"])
        self.discriminator_adam.load_state_dict(state["discriminator_adam"])
        self.reals.load_state_dict(state["reals"])
        self.random.set_state(state["random"])
        for name, value in state["augment"].items():
            self.augment_state[name].copy_(value)

    def snapshot_generator(self) -> Generator:
        """The generator a snapshot holds."""
        return self.generator if self.settings.weights == "raw" else self.average.generator


def _in_float32(output: Any) -> Any:
    """The discriminator's output with each of its tensors in float32."""
    if output is None or isinstance(output, Tensor):
        return None if output is None else output.float()
    names = [field.name for field in dataclasses.fields(output)]
    return type(output)(*(_in_float32(getattr(output, name)) for name in names))


class Reals:
    """All training images as uint8 on the device.

    A *basket* is the reals of one step. Baskets follow a shuffled order; what is left of an order
    after the last full basket is dropped and a new order is drawn.

    Attributes:
        drawn: baskets drawn since it was last set to 0.
        held: index buffers int64 [basket] that :meth:`draw` reads instead of the order, one after
            another; a captured step reads its images through them.
    """

    def __init__(self, samples: Samples, basket: int, seed: int, device: torch.device) -> None:
        images = torch.from_numpy(samples.images)
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        self.images = images.contiguous().to(device)
        self.labels = torch.from_numpy(samples.labels).to(device)
        self.basket = basket
        # The order is drawn on the CPU: it is then the same on every device. It moves to the device
        # as a whole, since every move costs a transfer.
        self.random = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64, device=device)
        self.cursor = 0
        self.drawn = 0
        self.held: list[Tensor] | None = None
        self._buffers: list[Tensor] = []

    def draw(self) -> tuple[Tensor, Tensor]:
        """Next basket: uint8 images [basket, C, H, W] and labels int64 [basket]."""
        places = self._next_places() if self.held is None else self.held[self.drawn]
        self.drawn += 1
        return self.images.index_select(0, places), self.labels.index_select(0, places)

    def buffers(self, count: int) -> list[Tensor]:
        """That many index buffers, always the same ones."""
        while len(self._buffers) < count:
            self._buffers.append(self.order.new_zeros(self.basket))
        return self._buffers[:count]

    def fill(self, count: int) -> None:
        """Advance by that many baskets, whose places go to the buffers."""
        for buffer in self.buffers(count):
            buffer.copy_(self._next_places())

    def _next_places(self) -> Tensor:
        if self.cursor + self.basket > len(self.order):
            order = torch.randperm(len(self.images), generator=self.random)
            if self.images.is_cuda:  # from pinned memory the host need not wait for the copy
                order = order.pin_memory()
            self.order, self.cursor = order.to(self.images.device, non_blocking=True), 0
        places = self.order[self.cursor : self.cursor + self.basket]
        self.cursor += self.basket
        return places

    def state_dict(self) -> dict[str, Any]:
        """Where the order stands."""
        return {"random": self.random.get_state(), "order": self.order, "cursor": self.cursor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        self.random.set_state(state["random"])
        self.order, self.cursor = state["order"].to(self.images.device), int(state["cursor"])


def to_range(images: Tensor) -> Tensor:
    """uint8 0…255 → float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1
