"""The pace of full steps: replayed from captured graphs, and what is measured before training.

The readable step, :func:`ensgan.train.training.full_step`, runs as it is on the CPU and the first
time of every kind of step. On a GPU it is then captured once for each kind (whether R1 is due,
whether ADA adjusts, what the average does) and replayed: a step is then one launch. What changes
from step to step without being a tensor reaches a replay through buffers: the places of the real
images and the average's decay.

Measured on a device are how many trainings should share a process, and whether ``torch.compile``
pays.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ensgan.caches import cache_folder
from ensgan.errors import DataError, StoreError, last_line
from ensgan.files import MISFITS, content_key, read_json, write_json
from ensgan.train.settings import TrainSettings, lacks_compiler
from ensgan.train.state import Record
from ensgan.train.training import Training, full_step
from ensgan.types import Samples
from ensgan.zoo.augment import Augmentation
from ensgan.zoo.table import GANSpec

Means: TypeAlias = tuple[tuple[str, ...], Tensor]
"""Names and values [n] of a step's losses."""
_EAGER_FIRST = 2
"""Steps of a kind before it is captured: libraries initialise and cuDNN chooses its algorithms."""


class GraphRecorder:
    """CUDA graphs on a stream of the training's own; all share one pool of memory."""

    def __init__(self, training: Training) -> None:
        self._random = training.random
        self._stream = torch.cuda.Stream(training.device)  # type: ignore[no-untyped-call]
        # The networks were placed by the stream of the caller.
        self._stream.wait_stream(torch.cuda.current_stream(training.device))
        self._pool: Any = None

    def stream(self) -> AbstractContextManager[object]:
        """The stream of this training as a context, for captured and for ordinary steps."""
        return torch.cuda.stream(self._stream)

    def record(self, work: Callable[[], Means]) -> tuple[Callable[[], None], Means]:
        """A function that replays ``work``, and the tensors it fills. Nothing is executed yet."""
        graph = torch.cuda.CUDAGraph()
        # Otherwise every replay would draw the numbers of the capture again.
        graph.register_generator_state(self._random)
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            left = work()
        self._pool = graph.pool()
        return graph.replay, left


@dataclass
class _Kind:
    """A kind of step.

    Attributes:
        seen: steps of this kind so far that were not replayed.
        draws: baskets of reals it draws.
        replay: once captured, with the means that it leaves.
    """

    seen: int = 0
    draws: int = 0
    replay: tuple[Callable[[], None], Means] | None = None


class Steps:
    """Advances a training step by step.

    Args:
        training: what is advanced.
        record: where the losses go.
        recorder: captures steps; by default CUDA graphs on a GPU, none elsewhere.

    Attributes:
        failure: why steps are not captured although they should be, else None. It is logged once.
        replays: how many steps were replayed.
    """

    def __init__(
        self, training: Training, record: Record, recorder: GraphRecorder | None = None
    ) -> None:
        if recorder is None and training.settings.capture and training.device.type == "cuda":
            recorder = GraphRecorder(training)
        self.training, self.record, self.recorder = training, record, recorder
        self.failure: str | None = None
        self.replays = 0
        self._kinds: dict[Hashable, _Kind] = {}
        if recorder is not None and (reason := _reason_against(training)):
            self._give_up(reason)

    def stream(self) -> AbstractContextManager[object]:
        """The training's CUDA stream as a context; its tensors are read within it too."""
        return nullcontext() if self.recorder is None else self.recorder.stream()

    def step(self) -> None:
        """One full step; its losses go to the record."""
        training = self.training
        with self.stream(), training.arithmetic():
            kind = self._kinds.setdefault(training.kind(), _Kind())
            if self.recorder is not None and self.failure is None and kind.seen >= _EAGER_FIRST:
                if kind.replay is None:
                    self._capture(kind, self.recorder)
                if kind.replay is not None:
                    self._replay(kind.draws, *kind.replay)
                    return
            step, training.reals.drawn = training.step, 0
            full_step(training, self.record)
            self.record.add(step, *self.record.step_means())
            kind.seen += 1
            kind.draws = training.reals.drawn

    def _replay(self, draws: int, replay: Callable[[], None], means: Means) -> None:
        training = self.training
        training.reals.fill(draws)
        training.average.fill(training.step)
        replay()
        names, values = means
        # The next replay overwrites the values.
        self.record.add(training.step, names, values.clone())
        training.step += 1
        self.replays += 1

    def _capture(self, kind: _Kind, recorder: GraphRecorder) -> None:
        training, scratch = self.training, Record(self.record.gan)

        def work() -> Means:
            full_step(training, scratch)
            return scratch.step_means()

        step = training.step
        training.reals.held, training.reals.drawn = training.reals.buffers(kind.draws), 0
        training.average.captured = True
        try:
            kind.replay = recorder.record(work)
        except torch.OutOfMemoryError:  # an ordinary step would run out of memory, too
            raise
        except Exception as error:
            self._give_up(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        finally:
            # Capturing ran the Python code of the step, but none of its kernels.
            training.step = step
            training.reals.held = None
            training.average.captured = False

    def _give_up(self, reason: str) -> None:
        self.failure = reason
        logging.getLogger("ensgan.train").warning(
            "%s trains without a captured step, more slowly: %s (where the driver is the reason, "
            "update it)",
            self.record.gan,
            reason,
        )


def _reason_against(training: Training) -> str | None:
    """Why the steps of a row must not be captured."""
    augmentation = type(training.augmentation)
    if (
        augmentation.adjust is not Augmentation.adjust
        and augmentation.adjusts is Augmentation.adjusts
    ):
        return f"{augmentation.__name__} has adjust() but does not say in adjusts() when it is due"
    return None


WORTHWHILE = 1.1
"""Twice as many trainings must make this many times the steps."""
LEAST_SECONDS = 1.5
COMPILE_WORTHWHILE = 1.05
"""Compiled steps must be this many times as fast: less is noise, and compiling takes a minute."""


def pace_together(
    make: Callable[[], Steps], least_seconds: float = LEAST_SECONDS
) -> Callable[[int], float]:
    """What measures the full steps per second, in all, of so many trainings taking turns.

    Args:
        make: a training of its own each time; those made are kept for larger counts.
        least_seconds: that each measurement takes.
    """
    made: list[Steps] = []

    def settle() -> None:
        if made[0].training.device.type == "cuda":
            torch.cuda.synchronize()

    def advance() -> None:
        for steps in made:
            steps.step()

    def pace(count: int) -> float:
        while len(made) < count:
            made.append(make())
        for _ in range(3):  # libraries load, cuDNN chooses, steps are captured
            advance()
        settle()
        begin, rounds = time.perf_counter(), 0
        while not rounds or time.perf_counter() - begin < least_seconds:
            advance()
            rounds += 1
            if rounds % 10 == 0:
                settle()
        settle()
        return count * rounds / (time.perf_counter() - begin)

    return pace


def worthwhile(pace: Callable[[int], float], most: int) -> int:
    """How many trainings one process should carry: doubled while that makes it faster in all.

    Args:
        pace: steps per second of so many; :class:`torch.OutOfMemoryError` ends the doubling.
        most: no more than these.
    """
    best, rate = 1, pace(1)
    while 2 * best <= most:
        try:
            faster = pace(2 * best)
        except torch.OutOfMemoryError:
            break
        if faster < WORTHWHILE * rate:
            break
        best, rate = 2 * best, faster
    return best


def paced(
    spec: GANSpec, reals: Samples, num_classes: int, settings: TrainSettings
) -> Callable[[int], float]:
    """:func:`pace_together` of trainings like this one, on the device of its settings."""
    return pace_together(
        lambda: Steps(Training(spec, reals, num_classes, settings), Record(spec.name))
    )


def compile_settled(
    spec: GANSpec,
    reals: Samples,
    num_classes: int,
    settings: TrainSettings,
    measure: Callable[[GANSpec, Samples, int, TrainSettings], Callable[[int], float]] = paced,
) -> TrainSettings:
    """The settings with ``compile`` true or false: "auto" is what is faster on this machine.

    On a GPU both are measured when a row of this shape first trains there, which takes about a
    minute, and the cache folder remembers. On the CPU "auto" is off: compiling a row takes two to
    three minutes of one core there.

    Args:
        spec, reals, num_classes, settings: of the training.
        measure: gives what measures the steps per second of such trainings.
    """
    if settings.compile != "auto":
        return settings
    plain = replace(settings, compile=False)
    device = torch.device(settings.device)
    if device.type != "cuda":
        return plain
    machine = torch.cuda.get_device_name(device), torch.__version__
    shape, optimiser = reals.shape, settings.optimiser(spec)
    row = {key: value for key, value in spec.to_json().items() if key != "name"}
    kind = row, str(shape), num_classes, optimiser.batch, optimiser.d_updates_per_step
    key = content_key("compile", machine, kind, settings.precision, settings.capture)
    path = cache_folder() / "compile" / f"{key}.json"
    with suppress(DataError, *MISFITS):
        return replace(settings, compile=bool(read_json(path)["pays"]))
    log = logging.getLogger("ensgan.train")
    if lacks_compiler():
        log.warning("%s: compile auto is off: no C++ compiler is on the PATH", spec.name)
        return plain
    compiled = replace(settings, compile=True)
    try:
        rates = [measure(spec, reals, num_classes, one)(1) for one in (plain, compiled)]
    except Exception as error:  # the compiler's own, and its driver's, are of many kinds
        log.warning(
            "%s: compile auto is off, it could not be measured: %s", spec.name, last_line(error)
        )
        return plain
    pays = rates[1] > COMPILE_WORTHWHILE * rates[0]
    with suppress(StoreError):
        write_json(path, {"pays": pays, "gan": spec.name, "steps per second": rates})
    return compiled if pays else plain
