"""One full step (all discriminator updates, one generator update) and the record of its losses."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ensgan.errors import TrainingError
from ensgan.train.training import Training
from ensgan.train.updates import FusedAdam
from ensgan.zoo.backbones import HeadOutput, Player
from ensgan.zoo.losses import GeneratorView, Losses, Regularizer


class Record:
    """Means of every loss since the last snapshot, and the watch for non-finite ones.

    Values stay on the device until :meth:`flush`, which looks at all steps since the last one.

    Attributes:
        gan: name for messages.
        latest: means of the last flushed step.
    """

    def __init__(self, gan: str) -> None:
        self.gan = gan
        self.latest: dict[str, float] = {}
        self._scalars: dict[str, list[Tensor]] = {}
        self._outputs: dict[str, list[Tensor]] = {}
        self._pending: list[tuple[int, tuple[str, ...], Tensor]] = []
        self._sums: dict[str, list[float]] = {}

    def losses(self, player: str, losses: Losses, total: Tensor | None = None) -> None:
        """Note a player's terms as ``player_term`` and their sum as ``player_loss``."""
        noted = losses if total is None else {**losses, "loss": total}
        for name, value in noted.items():
            self._scalars.setdefault(f"{player}_{name}", []).append(value.detach())

    def realness(self, name: str, values: Tensor) -> None:
        """Note one number per image [B]; their mean and mean sign are kept."""
        self._outputs.setdefault(name, []).append(values)

    def end_step(self, step: int) -> None:
        """Close the zero-based ``step``."""
        names, means = self.step_means()
        self.add(step, names, means)

    def step_means(self) -> tuple[tuple[str, ...], Tensor]:
        """Names and means [n] of what was noted since the last call, in few operations."""
        names: list[str] = []
        means = []
        by_count: dict[int, list[str]] = {}
        for name, values in self._scalars.items():
            by_count.setdefault(len(values), []).append(name)
        # One stack per number of updates: a kernel per loss would be most of a small step.
        for count, alike in by_count.items():
            table = torch.stack([value for name in alike for value in self._scalars[name]])
            means.append(table if count == 1 else table.view(-1, count).mean(dim=1))
            names += alike
        if self._outputs:
            outputs = torch.stack([torch.cat(values) for values in self._outputs.values()])
            means += [outputs.mean(dim=1), outputs.sign().mean(dim=1)]
            names += [f"{name}_{kind}" for kind in ("logit", "sign") for name in self._outputs]
        self._scalars.clear()
        self._outputs.clear()
        return tuple(names), torch.cat(means)

    def add(self, step: int, names: tuple[str, ...], means: Tensor) -> None:
        """Note the means of a whole step, which may still be on their way from the device."""
        self._pending.append((step, names, means))

    def flush(self) -> None:
        """Fetch the pending steps.

        Raises:
            TrainingError: a loss was not finite; names the GAN, step and loss.
        """
        if not self._pending:
            return
        # One transfer for all steps: each would wait for the device by itself.
        fetched = iter(torch.cat([means for _, _, means in self._pending]).tolist())
        for step, names, _ in self._pending:
            values = {name: next(fetched) for name in names}
            bad = [name for name, value in values.items() if not math.isfinite(value)]
            if bad:
                self._pending.clear()
                losses = ", ".join(f"{name} is {values[name]}" for name in bad)
                raise TrainingError(
                    f"{self.gan} stopped at step {step}: {losses}; lower the learning rate or "
                    "width, raise the batch, or take the GAN out of the sweep (snapshots before "
                    "this step are kept)"
                )
            for name, value in values.items():
                entry = self._sums.setdefault(name, [0.0, 0.0])
                entry[0] += value
                entry[1] += 1
            self.latest = values
        self._pending.clear()

    def means(self) -> dict[str, float]:
        """Means since the last :meth:`restart`; flush first."""
        return {name: total / count for name, (total, count) in self._sums.items()}

    def restart(self) -> None:
        """Begin new means."""
        self._sums.clear()

    def state_dict(self) -> dict[str, Any]:
        """The means so far; flush first."""
        return {name: list(entry) for name, entry in self._sums.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the means of :meth:`state_dict`."""
        self._sums = {name: [float(entry[0]), float(entry[1])] for name, entry in state.items()}


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
