"""Steps that are captured once and replayed, emulated on the CPU for every row.

The emulation keeps a capture's promises and limits: capturing executes nothing, a replay runs the
captured operations on the very storages they were captured with, and Python is not asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ensgan import zoo
from ensgan.errors import TrainingError
from ensgan.train import TrainSettings, loop, train_gan
from ensgan.train.pace import GraphRecorder, Means, Steps
from ensgan.train.state import Record
from ensgan.train.training import Training
from ensgan.types import Samples
from ensgan.zoo import augment
from ensgan.zoo.augment import Augmentation, AugmentState
from ensgan.zoo.parts import register_part
from ensgan.zoo.table import GANSpec
from ensgan.zoo.warp import warp

STEPS = 10


class Tape(TorchDispatchMode):
    """Notes every operation while it runs; afterwards undoes what it did to older tensors."""

    def __init__(self, random: torch.Generator) -> None:
        super().__init__()
        self.random, self.random_before = random, random.get_state()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self.made: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in written(func, args, kwargs):
            key = tensor.untyped_storage().data_ptr()
            if key not in self.made and key not in self.before:
                whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
                self.before[key] = (whole, whole.clone())
        result = func(*args, **kwargs)
        given = {id(tensor) for tensor in tensors((args, kwargs))}
        if not is_view(func):
            self.made |= {
                tensor.untyped_storage().data_ptr()
                for tensor in tensors(result)
                if id(tensor) not in given
            }
        self.calls.append((func, args, kwargs, result))
        return result

    def undo(self) -> None:
        """What was captured has not been executed."""
        for whole, before in self.before.values():
            whole.copy_(before)
        self.random.set_state(self.random_before)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            if is_view(func):
                continue
            given = {id(tensor) for tensor in tensors((args, kwargs))}
            for old, new in zip(tensors(result), tensors(func(*args, **kwargs)), strict=True):
                if id(old) not in given:
                    old.detach().copy_(new)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for entry in value for tensor in tensors(entry)]
    return []


def written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    if func is torch.ops.aten.native_batch_norm.default:  # its schema does not say so
        yield from tensors(args[3:5])
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from tensors(kwargs.get(argument.name, args[index] if index < len(args) else ()))


def is_view(func: Any) -> bool:
    schema = func._schema
    return any(
        argument.alias_info is not None and not argument.alias_info.is_write
        for argument in schema.arguments
    ) and all(made.alias_info is not None for made in schema.returns)


class TapeRecorder(GraphRecorder):
    """Stands for :class:`GraphRecorder`."""

    def __init__(self, training: Training) -> None:
        self.training = training

    def stream(self) -> AbstractContextManager[object]:
        return nullcontext()

    def record(self, work: Callable[[], Means]) -> tuple[Callable[[], None], Means]:
        with Tape(self.training.random) as tape:
            left = work()
        tape.undo()
        return tape.replay, left


def reals() -> Samples:
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32), dtype=np.uint8)
    return Samples(images, np.arange(40, dtype=np.int64) % 2)


def training_of(spec: GANSpec, **changes: Any) -> Training:
    values: dict[str, Any] = {"batch": 4, "d_updates": 2}
    return Training(spec, reals(), 2, TrainSettings(40, 1, 3, **(values | changes)))


@pytest.fixture
def warp_like_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU the warp looks at the matrices, which no capture could."""
    monkeypatch.setattr(
        augment, "warp", lambda images, m: warp(images, m, (images.shape[2] - 1,) * 2)
    )


QUICK = {"ACGAN-Mod-TAC", "BigGAN-ADA", "MHGAN", "ReACGAN-ADC", "SNGAN", "StyleGAN2-Info"}
"""One row of each family; the others are slow tests."""


@pytest.mark.usefixtures("warp_like_an_accelerator")
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in zoo.names()],
)
def test_replayed_steps_are_the_steps_to_the_last_bit(name: str) -> None:
    spec = zoo.get(name).scaled(1 / 32)
    runs = []
    for recorder in (None, TapeRecorder):
        training, record = training_of(spec), Record(name)
        steps = Steps(training, record, recorder and recorder(training))
        losses = []
        for _ in range(STEPS):
            steps.step()
            record.flush()
            losses.append(record.latest)
        runs.append((losses, training.state_dict(), steps.replays))
        assert steps.failure is None
    (losses, state, none), (again, same, replays) = runs
    assert none == 0 and replays >= 3
    assert again == losses
    for (key, value), (other, found) in zip(leaves(state), leaves(same), strict=True):
        assert key == other
        assert torch.equal(value, found) if torch.is_tensor(value) else value == found, key


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, (dict, list)):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(entry, f"{path}/{key}")
    else:
        yield path, value


def test_every_kind_of_step_has_its_capture() -> None:
    """R1 every second update, a decay that changes and then stays."""
    row = zoo.get("StyleGAN2").scaled(1 / 32)
    spec = GANSpec(
        "Mine",
        row.backbone,
        row.conditioning,
        row.adversarial,
        regularizers=(zoo.R1(every=2),),
        optimiser=row.optimiser,
        ema=zoo.FixedAverage(0.5),
    )
    training, record = training_of(spec, d_updates=1), Record("Mine")
    steps = Steps(training, record, TapeRecorder(training))
    for _ in range(16):
        steps.step()
    # With and without R1, decay still warming up (to step 8) and constant.
    assert len(steps._kinds) == 4
    assert all(kind.replay is not None for kind in steps._kinds.values())


@register_part
@dataclass(frozen=True)
class Wavering(Augmentation):
    """Adjusts now and then without saying when."""

    def apply(self, images: Tensor, state: AugmentState, generator: torch.Generator) -> Tensor:
        return images

    def adjust(self, step: int, state: AugmentState) -> None:
        del step, state


class Refusing(TapeRecorder):
    def record(self, work: Callable[[], Means]) -> tuple[Callable[[], None], Means]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def test_a_row_that_cannot_be_captured_trains_and_says_why_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = zoo.get("SNGAN").scaled(1 / 32)
    plain, training = training_of(spec), training_of(spec)
    eager, steps = Steps(plain, Record("a")), Steps(training, Record("a"), Refusing(training))
    with caplog.at_level(logging.WARNING):
        for _ in range(6):
            eager.step()
            steps.step()
    assert steps.failure == "RuntimeError: operation not permitted when stream is capturing"
    assert [message.count("not permitted") for message in caplog.messages] == [1]
    for (_, value), (_, found) in zip(
        leaves(plain.state_dict()), leaves(training.state_dict()), strict=True
    ):
        assert torch.equal(value, found) if torch.is_tensor(value) else value == found


def test_an_augmentation_that_does_not_say_when_it_adjusts_is_not_captured() -> None:
    row = zoo.get("SNGAN").scaled(1 / 32)
    training = training_of(GANSpec("Mine", row.backbone, row.conditioning, augmentation=Wavering()))
    steps = Steps(training, Record("Mine"), TapeRecorder(training))
    assert steps.failure is not None and "adjusts()" in steps.failure


class OutOfMemory(TapeRecorder):
    def record(self, work: Callable[[], Means]) -> tuple[Callable[[], None], Means]:
        raise torch.OutOfMemoryError("CUDA out of memory")


def captured(recorder: type[TapeRecorder]) -> type[Steps]:
    class Recorded(Steps):
        def __init__(self, training: Training, record: Record) -> None:
            super().__init__(training, record, recorder(training))

    return Recorded


def test_memory_that_runs_out_while_capturing_ends_the_training_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "Steps", captured(OutOfMemory))
    spec = zoo.get("SNGAN").scaled(1 / 32)
    chosen = TrainSettings(6, 1, 0, batch=4, d_updates=1)
    with pytest.raises(TrainingError, match="does not fit into the memory"):
        list(train_gan(spec, reals(), 2, chosen, tmp_path))


def test_snapshots_and_resume_are_those_of_an_eager_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = zoo.get("BigGAN").scaled(1 / 32)
    chosen = TrainSettings(12, 2, 0, batch=4, d_updates=1, resume_every=1)
    whole = list(train_gan(spec, reals(), 2, chosen, tmp_path / "eager"))
    monkeypatch.setattr(loop, "Steps", captured(TapeRecorder))
    first = train_gan(spec, reals(), 2, chosen, tmp_path / "replayed")
    next(first)
    first.close()  # type: ignore[attr-defined]
    parts = list(train_gan(spec, reals(), 2, chosen, tmp_path / "replayed"))
    assert [part.sha256 for part in parts] == [part.sha256 for part in whole]
    assert [part.metrics for part in parts] == [part.metrics for part in whole]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", zoo.names())
def test_a_graph_makes_the_losses_of_the_eager_step(name: str) -> None:
    losses = []
    for capture in (False, True):
        training = training_of(zoo.get(name).scaled(1 / 8), device="cuda", capture=capture)
        record = Record(name)
        steps = Steps(training, record)
        assert (steps.recorder is not None) == capture
        assert steps.recorder is None or isinstance(steps.recorder, GraphRecorder)
        seen = []
        for _ in range(8):
            steps.step()
            with steps.stream():
                record.flush()
            seen.append(record.latest)
        assert steps.failure is None
        losses.append(seen)
    for eager, graph in zip(*losses, strict=True):
        assert graph == pytest.approx(eager, rel=1e-2, abs=1e-2)
