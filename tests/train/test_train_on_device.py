"""A step on an accelerator: it never looks at its tensors and moves nothing from the host.

torch's meta device stands for the accelerator: its tensors have no values, so reading one is an
error, and copies from the host can be counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ensgan import zoo
from ensgan.train import TrainSettings
from ensgan.train.state import Record
from ensgan.train.training import Training, full_step
from ensgan.types import Samples

FULL_STEP = 16
"""R1 and ADA's controller are due."""


class Moves(TorchDispatchMode):
    """Counts copies from the host to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {value.device.type for value in args if isinstance(value, torch.Tensor)}
        if "cpu" in given and isinstance(made, torch.Tensor) and made.is_meta:
            self.seen[str(func)] += 1
        return made


def on_meta(name: str) -> Training:
    """A training all of whose tensors are on the meta device."""
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32), dtype=np.uint8)
    samples = Samples(images, np.arange(40, dtype=np.int64) % 2)
    settings = TrainSettings(
        1, 1, 0, batch=4, d_updates=1, ema_start=0, ema_decay=0.5, device="meta"
    )
    return Training(zoo.get(name).scaled(1 / 32), samples, 2, settings)


@pytest.mark.parametrize(
    "name", ["ACGAN-Mod-ADC", "BigGAN-ADA", "MHGAN", "ReACGAN-DiffAug", "StyleGAN2-Info"]
)
def test_a_step_stays_on_the_device(name: str) -> None:
    training, record = on_meta(name), Record(name)
    full_step(training, record)  # what is made once: filters, the order of the reals
    record.add(0, *record.step_means())
    training.step = FULL_STEP
    with Moves() as moves:
        full_step(training, record)
        record.add(FULL_STEP, *record.step_means())
    assert not moves.seen
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        record.flush()  # the only place that reads what the steps made
