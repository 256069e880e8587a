"""Losses as they come, without a host round trip in a step."""

from __future__ import annotations

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
        self._step: dict[str, list[Tensor]] = {}
        self._pending: list[tuple[int, tuple[str, ...], Tensor]] = []
        self._sums: dict[str, list[float]] = {}

    def value(self, name: str, value: Tensor) -> None:
        """Note a scalar tensor."""
        self._step.setdefault(name, []).append(value.detach())

    def losses(self, player: str, losses: Losses, *, total: bool = True) -> None:
        """Note a player's terms as ``player_term`` and their sum as ``player_loss``."""
        for name, value in losses.items():
            self.value(f"{player}_{name}", value)
        if total:
            self.value(f"{player}_loss", torch.stack(list(losses.values())).detach().sum())

    def end_step(self, step: int) -> None:
        """Close the zero-based ``step``."""
        names = tuple(self._step)
        means = [torch.stack(values).float().mean() for values in self._step.values()]
        self._pending.append((step, names, torch.stack(means)))
        self._step.clear()

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
            bad = [name for name, value in values.items() if not _finite(value)]
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


def _finite(value: float) -> bool:
    return value - value == 0.0
