"""A training: everything that changes while a GAN trains, and the full steps that change it.

A full step is all discriminator updates and one generator update.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ensgan.precision import arithmetic, mixed
from ensgan.train.settings import TrainSettings, keep_freed_memory
from ensgan.train.state import AveragedGenerator, FusedAdam, Reals, Record
from ensgan.types import Samples
from ensgan.zoo.backbones import Generator, HeadOutput, Player
from ensgan.zoo.backbones.effective import EffectiveWeights
from ensgan.zoo.build import Discriminator, build_discriminator, build_generator, placed
from ensgan.zoo.losses import GeneratorView, Losses, Regularizer
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
        states = {name: part.state_dict() for name, part in self._parts().items()}
        random, augment = self.random.get_state(), dict(self.augment_state)
        return {"step": self.step, "average": {}, **states, "random": random, "augment": augment}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where :meth:`state_dict` was taken."""
        self.step = int(state["step"])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.random.set_state(state["random"])
        for name, value in state["augment"].items():
            self.augment_state[name].copy_(value)

    def _parts(self) -> dict[str, Any]:
        """What has a state of its own, by its name in a checkpoint."""
        names = ("generator", "discriminator", "generator_adam", "discriminator_adam", "reals")
        average = {"average": self.average.generator} if self.average.follows else {}
        return {**{name: getattr(self, name) for name in names}, **average}

    def snapshot_generator(self) -> Generator:
        """The generator a snapshot holds."""
        return self.generator if self.settings.weights == "raw" else self.average.generator


def _in_float32(output: Any) -> Any:
    """The discriminator's output with each of its tensors in float32."""
    if output is None or isinstance(output, Tensor):
        return None if output is None else output.float()
    names = [field.name for field in dataclasses.fields(output)]
    return type(output)(*(_in_float32(getattr(output, name)) for name in names))


def full_step(training: Training, record: Record) -> None:
    """Advance the training by one step and note its losses."""
    phases = [discriminator_phase, generator_phase]
    for phase in phases if training.optimiser.d_first else reversed(phases):
        phase(training, record)
    training.average.update(training.step)
    training.step += 1


def discriminator_phase(training: Training, record: Record) -> None:
    """All discriminator updates of a step, on one basket of reals."""
    images, labels = training.reals.draw()
    updates = training.optimiser.d_updates_per_step
    slices = zip(
        torch.split(images, training.batch), torch.split(labels, training.batch), strict=True
    )
    for index, (reals, batch_labels) in enumerate(slices):
        _discriminator_update(training, record, reals, batch_labels)
        for regularizer in training.spec.regularizers:
            if regularizer.due(updates * training.step + index):
                _regularized_update(training, record, regularizer, reals, batch_labels)
        training.augmentation.adjust(training.step, training.augment_state)


def _discriminator_update(
    training: Training, record: Record, reals: Tensor, labels: Tensor
) -> None:
    spec = training.spec
    # The generator is not moved here, so no graph of it is kept.
    with torch.no_grad():
        fakes = training.fakes(Player.DISCRIMINATOR)
    real_targets = spec.conditioning.real_targets(labels)
    fake_targets = spec.conditioning.fake_targets(fakes.labels)
    # Two forwards: batch statistics, minibatch deviation and power iteration see them apart.
    with training.discriminator_weights.ahead(2):
        real = training.discriminate(training.augment(reals), real_targets)
        training.observe(real)
        fake = training.discriminate(training.augment(fakes.images), fake_targets)
    losses = {
        "adversarial": spec.adversarial.discriminator_loss(
            real.adversarial, fake.adversarial, labels
        ),
        **spec.conditioning.discriminator_losses(real, fake, real_targets, fake_targets),
    }
    record.losses("d", losses, _descend(training.discriminator_adam, losses))
    for name, output in (("real", real), ("fake", fake)):
        record.realness(name, spec.adversarial.realness(output.adversarial.detach()))


def _regularized_update(
    training: Training, record: Record, regularizer: Regularizer, reals: Tensor, labels: Tensor
) -> None:
    """A separate optimiser step on a regularizer's terms, with the reals of the last update."""

    def discriminate(images: Tensor) -> HeadOutput:
        targets = training.spec.conditioning.real_targets(labels)
        output = training.discriminate(training.augment(images), targets, twice=True)
        training.observe(output)
        return output

    losses = regularizer.discriminator_losses(reals, discriminate)
    _descend(training.discriminator_adam, losses)
    record.losses("d", losses)


def generator_phase(training: Training, record: Record) -> None:
    """The generator's update; the discriminator learns nothing from it."""
    # Gradients of weights that are not moved would be computed for nothing.
    _require_gradients(training.own_parameters, False)
    try:
        losses = _generator_losses(training)
        total = _descend(training.generator_adam, losses)
    finally:
        _require_gradients(training.own_parameters, True)
    record.losses("g", losses, total)


def _generator_losses(training: Training) -> Losses:
    spec = training.spec
    fakes = training.fakes(Player.GENERATOR)
    seen = training.augment(fakes.images)
    targets = spec.conditioning.real_targets(fakes.labels)
    output = training.discriminate(seen, targets, codes=True)

    def real_features() -> Tensor:
        images, labels = training.reals.draw()
        targets = spec.conditioning.real_targets(labels[: training.batch])
        with torch.no_grad():
            reals = training.augment(images[: training.batch])
            return training.discriminate(reals, targets).features

    view = GeneratorView(output, fakes.codes, real_features)
    losses = {
        "adversarial": spec.adversarial.generator_loss(output.adversarial, fakes.labels),
        **spec.conditioning.generator_losses(
            output, fakes.labels, lambda others: training.discriminate(seen, others)
        ),
    }
    for regularizer in spec.regularizers:
        losses.update(regularizer.generator_losses(view))
    return losses


def _descend(optimiser: FusedAdam, losses: Losses) -> Tensor:
    """One update on the sum of the losses, which it returns."""
    total = functools.reduce(operator.add, losses.values())
    optimiser.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return total


def _require_gradients(parameters: Iterable[torch.nn.Parameter], wanted: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(wanted)
