"""What is measured before trainings go on, with rates that are given."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ensgan import zoo
from ensgan.caches import CACHE_VARIABLE
from ensgan.train import TrainSettings, pace
from ensgan.train.pace import compile_settled
from ensgan.types import Samples
from ensgan.zoo.table import GANSpec

AUTO = TrainSettings(100, 1, 0, device="cuda", precision="bfloat16", compile="auto")
REALS = Samples(np.zeros((640, 32, 32), np.uint8), np.arange(640) % 2)


class Card:
    """A pretended card: steps per second with and without compiling, and what was measured."""

    def __init__(self, plain: float, compiled: float) -> None:
        self.rates = {False: plain, True: compiled}
        self.measured: list[object] = []

    def __call__(
        self, spec: GANSpec, reals: Samples, classes: int, settings: TrainSettings
    ) -> Callable[[int], float]:
        self.measured.append(settings.compile)
        rate = self.rates[bool(settings.compile)]
        if not rate:
            raise RuntimeError("Internal\nno module named triton")
        return lambda count: rate

    def settled(self, name: str = "SNGAN", settings: TrainSettings = AUTO) -> object:
        return compile_settled(zoo.get(name), REALS, 2, settings, self).compile


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(pace, "lacks_compiler", lambda: False)


def test_what_is_faster_is_taken_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    faster = Card(30, 40)
    assert faster.settled() is True and faster.settled() is True
    assert faster.measured == [False, True], "once per machine"
    slower = Card(40, 30)
    assert slower.settled() is True, "another process of this machine knows it"
    assert slower.settled("StyleGAN2") is False and len(slower.measured) == 2
    assert Card(40, 41).settled("SAGAN") is False, "less than the noise"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "another card")
    assert slower.settled() is False and len(slower.measured) == 4


def test_what_is_not_auto_and_what_has_no_gpu_is_not_measured() -> None:
    card = Card(30, 40)
    on_cpu = TrainSettings(100, 1, 0, compile="auto")
    assert card.settled(settings=on_cpu) is False
    for chosen in (True, False):
        assert (
            card.settled(settings=TrainSettings(1, 1, 0, device="cuda", compile=chosen)) is chosen
        )
    assert not card.measured


def test_where_it_cannot_compile_one_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        broken = Card(30, 0)
        assert broken.settled() is False
        monkeypatch.setattr(pace, "lacks_compiler", lambda: True)
        assert broken.settled() is False
    assert caplog.messages == [
        "SNGAN: compile auto is off, it could not be measured: no module named triton",
        "SNGAN: compile auto is off: no C++ compiler is on the PATH",
    ]
    monkeypatch.setattr(pace, "lacks_compiler", lambda: False)
    assert Card(30, 40).settled() is True, "a failure is not remembered"
