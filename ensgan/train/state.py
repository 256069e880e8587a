"""What a training keeps beside its networks: the order of the real images, Adam's moments, the
average of the generator, the record of the losses.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Hashable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ensgan.errors import TrainingError
from ensgan.types import Samples
from ensgan.zoo.backbones import Generator
from ensgan.zoo.losses import Losses
from ensgan.zoo.parts import Adam, NoAverage, WeightAverage


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
        """Next basket: float32 images in [-1, 1], [basket, C, H, W], and labels int64 [basket]."""
        places = self._next_places() if self.held is None else self.held[self.drawn]
        self.drawn += 1
        images = self.images.index_select(0, places).to(torch.float32) / 127.5 - 1
        return images, self.labels.index_select(0, places)

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


class FusedAdam:
    """Adam (Kingma & Ba 2015) without weight decay, the update of ``torch.optim.Adam``.

    It calls torch's fused kernel directly: constructing a ``torch.optim`` class imports the
    compiler, which costs a process seconds before its first step.

    Attributes:
        parameters: what it updates; one without gradient is left alone, its state too.
        rates: learning rate, betas, eps.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], rates: Adam) -> None:
        self.parameters, self.rates = list(parameters), rates
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update with the gradients at hand."""
        due = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        steps = [self.steps[i] for i in due]
        # One tensor of steps per parameter: a captured step must find its count on the device.
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            [self.parameters[i] for i in due],
            [grad for i in due if (grad := self.parameters[i].grad) is not None],
            [self.means[i] for i in due],
            [self.squares[i] for i in due],
            [],
            steps,
            lr=self.rates.learning_rate,
            beta1=self.rates.betas[0],
            beta2=self.rates.betas[1],
            weight_decay=0.0,
            eps=self.rates.eps,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Moments and step counts."""
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken.

        Raises:
            ValueError: the state belongs to other parameters.
        """
        for name, current in self.state_dict().items():
            for mine, theirs in zip(current, state[name], strict=True):
                mine.copy_(theirs)


class AveragedGenerator:
    """Follows a generator as the row's :class:`WeightAverage` says.

    Attributes:
        generator: the averaged copy; the generator itself when the row has no average.
        rate: 1 − d on the device, float32 []; what a captured step reads.
        captured: whether :meth:`update` is being captured, and must read a changing decay there.
    """

    def __init__(self, generator: Generator, average: WeightAverage, batch: int) -> None:
        self.average, self.batch = average, batch
        self.follows = not isinstance(average, NoAverage)
        self.generator = (
            copy.deepcopy(generator).eval().requires_grad_(False) if self.follows else generator
        )
        buffers_too = average.averages_buffers
        self.averaged, self.copied = _pairs(self.generator, generator, buffers_too)
        self.rate = torch.zeros((), device=next(generator.parameters()).device)
        self.captured = False

    def kind(self, step: int) -> Hashable:
        """What :meth:`update` does at the zero-based ``step``, as far as Python decides it."""
        decay = self.average.decay(step, self.batch)
        constant = decay <= 0 or decay == self.average.decay(step + 1, self.batch)
        return decay if constant else "changing"

    def fill(self, step: int) -> None:
        """Before a replay of the ``step``: put its decay on the device."""
        if self.follows:
            self.rate.fill_(1 - self.average.decay(step, self.batch))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After the zero-based ``step``: e ← d·e + (1 − d)·w."""
        if not self.follows:
            return
        decay = self.average.decay(step, self.batch)
        averages, weights = self.averaged
        if self.captured and self.kind(step) == "changing":
            torch._foreach_lerp_(averages, weights, [self.rate] * len(averages))
        elif decay > 0:
            torch._foreach_lerp_(averages, weights, 1 - decay)
        else:  # the average has not begun: a product by 0 would keep what is not finite
            torch._foreach_copy_(averages, weights)
        copies, sources = self.copied
        if copies:
            torch._foreach_copy_(copies, sources)


TensorPairs: TypeAlias = tuple[list[Tensor], list[Tensor]]


def _pairs(
    averaged: Generator, source: Generator, averages_buffers: bool
) -> tuple[TensorPairs, TensorPairs]:
    """(averages, weights) that are averaged, and those that are copied."""
    average: TensorPairs = ([], [])
    copied: TensorPairs = ([], [])
    for parameter, weight in zip(averaged.parameters(), source.parameters(), strict=True):
        average[0].append(parameter)
        average[1].append(weight.detach())
    for buffer, current in zip(averaged.buffers(), source.buffers(), strict=True):
        target = average if averages_buffers and buffer.is_floating_point() else copied
        target[0].append(buffer)
        target[1].append(current)
    return average, copied


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
