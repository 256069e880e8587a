"""Number formats of a training, and freed memory that stays with its process."""

from __future__ import annotations

import platform
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from ensgan import zoo
from ensgan.errors import ConfigError, InputError
from ensgan.files import read_json, write_json
from ensgan.precision import arithmetic, precision_problems, resolved_precision
from ensgan.train import TrainSettings, train_gan
from ensgan.train.settings import keep_freed_memory
from ensgan.types import Samples

PAGE = 4096
NUMBERS = 4 << 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_is_not_cleared_again_by_the_kernel() -> None:
    assert keep_freed_memory()
    torch.ones(NUMBERS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(NUMBERS)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    once = torch.ones(0).element_size() * NUMBERS / PAGE
    assert faults < 5 * once  # while the heap settles, not ten times


CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A pretended NVIDIA card; entry 0 is its major compute capability."""
    capability = [8]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (capability[0], 0))
    return capability


def test_float32_is_float32_and_what_was_set_comes_back() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    for precision, tf32 in (("float32", False), ("tf32", True), ("bfloat16", True)):
        with pytest.raises(KeyError), arithmetic(precision, CUDA):  # type: ignore[arg-type]
            assert (cudnn.allow_tf32, cudnn.benchmark) == (tf32, True)
            raise KeyError
        assert (cudnn.allow_tf32, cudnn.benchmark) == before
    with arithmetic("bfloat16", CUDA, tunes=False):
        assert not cudnn.benchmark
    with arithmetic("float32", CPU):
        assert (cudnn.allow_tf32, cudnn.benchmark) == before


def test_short_trainings_in_bfloat16_take_the_algorithms_that_cudnn_expects_to_be_best() -> None:
    for precision, steps, tunes in (
        ("bfloat16", 3_000, False),
        ("bfloat16", 100_000, True),
        ("tf32", 3_000, True),
        ("float32", 3_000, True),
    ):
        settings = TrainSettings(steps, 1, 0, precision=precision)  # type: ignore[arg-type]
        assert settings.tunes == tunes


def test_auto_is_bfloat16_where_it_is_fast(
    card: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolved_precision("auto", CUDA) == "bfloat16"
    card[0] = 7
    assert resolved_precision("auto", CUDA) == "float32"
    assert resolved_precision("tf32", CUDA) == "tf32"
    for amx, found in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("ensgan.precision._has_amx", lambda amx=amx: amx)
        assert resolved_precision("auto", CPU) == found


def test_what_a_device_cannot_do_is_said_in_a_sentence(card: list[int]) -> None:
    for precision in ("float32", "tf32", "bfloat16", "auto"):
        assert precision_problems(precision, CUDA) == []
    card[0] = 7
    for precision in ("tf32", "bfloat16"):
        (problem,) = precision_problems(precision, CUDA)
        assert precision in problem and "an old card" in problem and "use float32" in problem
    assert "the device is cpu" in precision_problems("tf32", CPU)[0]


def train(folder: Path, **changes: object) -> list[str]:
    images = np.random.default_rng(1).integers(0, 256, (24, 32, 32), dtype=np.uint8)
    reals = Samples(images, np.arange(24, dtype=np.int64) % 2)
    settings = TrainSettings(4, 2, 3, batch=4, d_updates=1, **changes)  # type: ignore[arg-type]
    row = zoo.get("BigGAN").scaled(1 / 32)
    return [snapshot.sha256 for snapshot in train_gan(row, reals, 2, settings, folder)]


def test_what_auto_came_to_is_recorded_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensgan.precision._has_amx", lambda: False)
    made = train(tmp_path, precision="auto")
    assert read_json(tmp_path / "training.json")["settings"]["precision"] == "float32"
    monkeypatch.setattr("ensgan.precision._has_amx", lambda: True)  # resumed on another machine
    assert train(tmp_path, precision="auto") == made
    with pytest.raises(InputError, match="precision was 'float32', is now 'bfloat16'"):
        train(tmp_path, precision="bfloat16")
    with pytest.raises(ConfigError, match="tf32"):
        train(tmp_path / "other", precision="tf32")


def test_a_training_that_an_earlier_version_began_keeps_its_average(tmp_path: Path) -> None:
    row = train(tmp_path / "row", ema="row")
    recorded = read_json(tmp_path / "row" / "training.json")
    assert "ema" not in recorded["settings"]  # as it was recorded before there was a choice
    fitted = train(tmp_path / "fitted")
    assert read_json(tmp_path / "fitted" / "training.json")["settings"]["ema"] == "fitted"
    assert fitted != row
    (tmp_path / "old").mkdir()
    write_json(tmp_path / "old" / "training.json", recorded)
    assert train(tmp_path / "old") == row


def test_short_trainings_average_what_they_have() -> None:
    spec = zoo.get("BigGAN")
    short = TrainSettings(5_000, 1, 0).average(spec)
    assert short.decay(0, 64) == 0.1
    assert short.decay(4_999, 64) == pytest.approx(5_000 / 5_009)
    assert TrainSettings(100_000, 1, 0).average(spec) == spec.ema
    assert TrainSettings(5_000, 1, 0, ema="row").average(spec) == spec.ema
    chosen = TrainSettings(5_000, 1, 0, ema_decay=0.99).average(spec)
    assert chosen == zoo.FixedAverage(0.99, 1000)
    half_life = zoo.get("StyleGAN2")
    assert TrainSettings(5_000, 1, 0).average(half_life) == half_life.ema


def test_compile_without_a_compiler_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler.*leave compile off"):
        train(tmp_path, compile=True)
