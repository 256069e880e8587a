"""Measured on a device before training: how many trainings should share a process, and whether
``torch.compile`` pays.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch

from ensgan.caches import cache_folder
from ensgan.errors import DataError, StoreError, last_line
from ensgan.files import MISFITS, content_key, read_json, write_json
from ensgan.train.captured import Steps
from ensgan.train.settings import TrainSettings, lacks_compiler
from ensgan.train.step import Record
from ensgan.train.training import Training
from ensgan.types import Samples
from ensgan.zoo.table import GANSpec

WORTHWHILE = 1.1
"""Twice as many trainings must make this many times the steps."""
LEAST_SECONDS = 1.5
COMPILE_WORTHWHILE = 1.05
"""Compiled steps must be this many times as fast: less is noise, and compiling takes a minute."""


def gans_worth_sharing(
    spec: GANSpec, reals: Samples, num_classes: int, settings: TrainSettings, most: int
) -> int:
    """How many trainings like this one process should carry: doubled while that is faster in all.

    Measured on the device of the settings. What does not fit into its memory is not worth it.
    """

    return worthwhile(_paced(spec, reals, num_classes, settings), most)


def _paced(
    spec: GANSpec, reals: Samples, num_classes: int, settings: TrainSettings
) -> Callable[[int], float]:
    return pace_together(
        lambda: Steps(Training(spec, reals, num_classes, settings), Record(spec.name))
    )


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


def steps_per_second(
    spec: GANSpec, reals: Samples, num_classes: int, settings: TrainSettings
) -> float:
    """Full steps per second of a training of its own, captured where the device captures."""
    return _paced(spec, reals, num_classes, settings)(1)


def compile_settled(
    spec: GANSpec,
    reals: Samples,
    num_classes: int,
    settings: TrainSettings,
    rate: Callable[[GANSpec, Samples, int, TrainSettings], float] = steps_per_second,
) -> TrainSettings:
    """The settings with ``compile`` true or false: "auto" is what is faster on this machine.

    On a GPU both are measured when a row of this shape first trains there, which takes about a
    minute, and the cache folder remembers. On the CPU "auto" is off: compiling a row takes two to
    three minutes of one core there.

    Args:
        spec, reals, num_classes, settings: of the training.
        rate: steps per second of such a training.
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
        rates = [rate(spec, reals, num_classes, one) for one in (plain, compiled)]
    except Exception as error:  # the compiler's own, and its driver's, are of many kinds
        log.warning(
            "%s: compile auto is off, it could not be measured: %s", spec.name, last_line(error)
        )
        return plain
    pays = rates[1] > COMPILE_WORTHWHILE * rates[0]
    with suppress(StoreError):
        write_json(path, {"pays": pays, "gan": spec.name, "steps per second": rates})
    return compiled if pays else plain
