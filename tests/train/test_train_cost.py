"""Operations of a step, counted and turned into seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ensgan import zoo
from ensgan.train import TrainSettings
from ensgan.train.cost import WIDTHS, Machine, StepWork, WorkCounter, measure_machine, step_work
from ensgan.train.state import Record
from ensgan.train.training import Training, full_step
from ensgan.types import ImageShape, Samples
from ensgan.zoo import footprint

GREY = ImageShape(1, 32)
SETTINGS = TrainSettings(100_000, 1, 0)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("SNGAN", 2_200),
        ("BigGAN", 2_800),
        ("BigGAN-ADA", 3_300),
        ("ReACGAN", 3_300),
        ("StyleGAN2", 1_300),
    ],
)
def test_a_step_launches_few_kernels(name: str, most: int) -> None:
    work = step_work(zoo.get(name).scaled(1 / 8), GREY, 2, SETTINGS)
    assert most / 2 < work.kernels <= most


def test_arithmetic_is_that_of_the_products() -> None:
    """One layer's share by hand: the discriminator's last convolution, seen in 11 forwards."""
    wide, narrow = (
        step_work(zoo.get("SNGAN").scaled(width), GREY, 2, SETTINGS) for width in (1, 1 / 2)
    )
    assert sum(wide.flops) == pytest.approx(1.86e12, rel=0.01)  # counted by FlopCounterMode
    assert 3.5 < sum(wide.flops) / sum(narrow.flops) < 4
    assert narrow.kernels == wide.kernels
    assert wide.bytes > 1.5 * narrow.bytes


def test_work_by_parts_is_nearly_that_of_whole_steps() -> None:
    spec = zoo.get("BigGAN-ADA").scaled(1 / 8)
    n = spec.optimiser.batch * spec.optimiser.d_updates_per_step
    reals = Samples(np.zeros((n, 32, 32), np.uint8), np.zeros(n, np.int64))
    training = Training(spec, reals, 2, replace(SETTINGS, device="meta"))
    training.step, steps = 16_000, spec.augmentation.interval
    record = Record(spec.name)
    with WorkCounter() as counter:
        for _ in range(steps):
            full_step(training, record)
            record.step_means()
    exact, parts = counter.work(), step_work(spec, GREY, 2, SETTINGS)
    assert sum(parts.flops) == pytest.approx(sum(exact.flops) / steps, rel=1e-3)
    assert exact.kernels / steps <= parts.kernels < 1.05 * exact.kernels / steps
    assert parts.bytes == pytest.approx(exact.bytes / steps, rel=0.02)


@pytest.mark.parametrize("name", ["BigGAN-ADA", "StyleGAN2"])
def test_what_is_looked_up_is_what_torch_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = zoo.get(name).scaled(1 / 8)
    looked_up = step_work(spec, GREY, 2, SETTINGS)
    monkeypatch.setattr(footprint, "_remake", lambda *_: None)  # each operation by torch, again
    monkeypatch.setattr(footprint, "_known", {})
    assert step_work(spec, GREY, 2, SETTINGS) == looked_up


def test_equal_numbers_of_other_kinds_are_not_mixed_up() -> None:
    whole = torch.zeros(3, dtype=torch.int64, device="meta")
    with WorkCounter():
        kinds = [(whole + number).dtype for number in (1, 1.0, True, 1)]
    assert kinds == [torch.int64, torch.float32, torch.int64, torch.int64]


def test_seconds_add_up() -> None:
    machine = Machine((1.0, 2.0, 4.0), 10.0, 0.5)
    assert machine.seconds(StepWork(4, (1, 2, 4), 20)) == 1 + 1 + 1 + 2 + 2
    measured = measure_machine()
    assert len(measured.flops_per_second) == len(WIDTHS)
    assert min(measured.flops_per_second) > 1e8
    assert measured.bytes_per_second > 1e7 and 0 < measured.seconds_per_kernel < 1e-2
