"""How long a step of a GAN takes where a sweep will run, as far as that is known here."""

from __future__ import annotations

from dataclasses import replace

import torch

from ensgan.sweep.planning.measured import Measured
from ensgan.sweep.resolving import Resolved
from ensgan.sweep.variations import Configuration
from ensgan.text import counted
from ensgan.train import TrainSettings
from ensgan.train.cost import H200, Machine, StepWork, measure_machine

FITTED = "rates fitted to captured steps of three GANs (within a sixth)"
TABULATED = "NVIDIA H200"
"""Whose rates stand in where trials ask for GPUs and this machine has none."""


class Rates:
    """Seconds per step: of an earlier training on this storage, else of the counted operations.

    Args:
        resolved: the sweep.
        measured: of the storage.

    Attributes:
        device: whose rates count operations are divided by: ``cpu`` (one thread) or ``cuda`` of
            this machine or, where trials will run on GPUs and none is here, :data:`TABULATED`.
    """

    def __init__(self, resolved: Resolved, measured: Measured) -> None:
        self.resolved, self.measured = resolved, measured
        self.device = "cpu"
        if resolved.spec.cluster.gpus_per_trial:
            self.device = "cuda" if torch.cuda.is_available() else TABULATED
        self._machines: dict[str, Machine] = {}
        self._precisions: dict[str, None] = {}
        self._known = self._asked = 0

    def seconds_per_step(self, gan: Configuration, work: StepWork) -> float:
        """Of a configuration, whose steps do so much."""
        shape, classes = self.resolved.dataset.shape, self.resolved.dataset.num_classes
        on_gpu = self.device != "cpu"
        known = self.measured.seconds_per_step(
            gan.row.to_json(), gan.settings, shape, classes, on_gpu=on_gpu
        )
        precision = self._precision(gan.settings)
        self._precisions[precision + " (auto)" * (gan.settings.precision == "auto")] = None
        self._asked, self._known = self._asked + 1, self._known + (known is not None)
        return self._machine(precision).seconds(work) if known is None else known

    def _precision(self, settings: TrainSettings) -> str:
        if self.device == TABULATED:
            return "bfloat16" if settings.precision == "auto" else settings.precision
        return replace(settings, device=self.device).settled(None).precision

    def _machine(self, precision: str) -> Machine:
        if self.device == TABULATED:
            return H200[precision]
        if precision not in self._machines:
            self._machines[precision] = _measured(self.device, precision)
        return self._machines[precision]

    def basis(self) -> str:
        """What the seconds given so far rest on, one sentence; "" where none were given."""
        if not self._asked:
            return ""
        measured = f"{self._known} of {counted(self._asked, 'GAN')} as they trained here before"
        parts = [measured] if self._known else []
        if self._known < self._asked:
            rates = "what this machine computes in a second"
            if self.device == TABULATED:
                rates = f"{FITTED} of one {TABULATED}"
                if any(name.startswith("float32") for name in self._precisions):
                    rates += " (in float32: the rate of its products, no step was timed)"
            parts.append(
                f"{'the others' if parts else 'GANs'} by the operations of a step and {rates}"
            )
        return f"hours in {' and '.join(self._precisions)}: {', '.join(parts)}"


def _measured(device: str, precision: str) -> Machine:
    """Rates of one thread, as a trial has it, or of the GPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measure_machine(device, precision)
    finally:
        torch.set_num_threads(threads)
