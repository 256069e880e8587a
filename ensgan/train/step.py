"""One full step: all discriminator updates and one generator update."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable

import torch
from torch import Tensor

from ensgan.train.record import Record
from ensgan.train.training import Training
from ensgan.train.updates import FusedAdam
from ensgan.zoo.backbones.base import Player
from ensgan.zoo.conditioning.base import HeadOutput, Losses
from ensgan.zoo.regularizers import GeneratorView, Regularizer


def full_step(training: Training, record: Record) -> None:
    """Advance the training by one step and note its losses."""
    phases = [discriminator_phase, generator_phase]
    for phase in phases if training.optimiser.d_first else reversed(phases):
        phase(training, record)
    training.average.update(training.step)
    training.step += 1


def discriminator_phase(training: Training, record: Record) -> None:
    """All discriminator updates of a step, on one basket of reals."""
    images, labels = training.draw_reals()
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
        images, labels = training.draw_reals()
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
