"""Losses as they come, without a host round trip in a step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ensgan.errors import TrainingError
from ensgan.zoo.conditioning.base import Losses


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
