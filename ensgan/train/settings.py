"""How long and on what a GAN trains, beside what its row says; what that asks of the machine."""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from ensgan.errors import InputError
from ensgan.inputs import check_fields
from ensgan.precision import Wanted, precision_problems, resolved_precision
from ensgan.zoo.parts import Adam, FixedAverage, Optimiser, WarmedAverage, WeightAverage
from ensgan.zoo.table import GANSpec

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30
_LARGEST_ON_HEAP = 32 << 20
"""The most that glibc takes on 64-bit machines."""


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Tell glibc to keep up to 1 GiB of freed memory for the next step of a training.

    By default it returns freed activations to the kernel, which then has to clear their pages
    again in every step: up to a fifth of the time of a narrow StyleGAN2. Values do not change.

    Returns:
        Whether the C library took the settings; another one than glibc is left alone.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # The first call ends glibc's own adaptation of both thresholds.
    options = {_MMAP_THRESHOLD: _LARGEST_ON_HEAP, _TRIM_THRESHOLD: _KEPT_BYTES}
    taken = {option: set_option(option, value) for option, value in options.items()}
    return all(taken.values())


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one training; None means the row's own value.

    Attributes:
        steps: full steps (all discriminator updates and one generator update each).
        snapshots: how many, evenly spaced, the last at ``steps``; must divide ``steps``.
        seed: of initialisation, data order and every draw.
        batch, d_updates: images per update, discriminator updates per step.
        learning_rate: factor on both learning rates of the row. Short trainings of narrow networks
            want more than 1.
        ema_start, ema_decay: for rows whose average has a fixed decay; others are not changed.
        ema: "fitted" lets a fixed decay warm up in trainings shorter than those it was published
            for, "row" leaves it as it is; None: "fitted", but a training that an earlier version
            began goes on with "row". With ``ema_start`` or ``ema_decay`` it is "row".
        resume_every: steps between resume checkpoints; None: the snapshot spacing.
        weights: which generator a snapshot holds, the averaged ("ema") or the trained ("raw").
        fake_labels: of the generated images in training: "uniform" over the classes, as the
            published configurations do, or in the proportions of the "training" split. With
            unequal classes and "uniform" a projection discriminator can tell fakes by their label.
        device: a torch device.
        precision: "float32" is that everywhere; "tf32" lets an NVIDIA card round the inputs of its
            convolutions; "bfloat16" is automatic mixed precision; "auto" is bfloat16 where the
            device computes faster in it (cards that have it, CPUs with AMX), else float32, and
            what it is at a training's first step it stays.
        compile: run the networks through ``torch.compile``; "auto": where a GPU trains the row
            faster so (:func:`ensgan.train.pace.compile_settled`).
        capture: replay whole steps from CUDA graphs; nothing else than speed depends on it.

    Raises:
        InputError: with every value that is out of range.
    """

    steps: Annotated[int, Field(ge=1)]
    snapshots: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]
    batch: Annotated[int | None, Field(ge=2)] = None
    d_updates: Annotated[int | None, Field(ge=1)] = None
    learning_rate: Annotated[float, Field(gt=0)] = 1.0
    ema_start: Annotated[int | None, Field(ge=0)] = None
    ema_decay: Annotated[float | None, Field(ge=0, lt=1)] = None
    resume_every: Annotated[int | None, Field(ge=1)] = None
    weights: Literal["ema", "raw"] = "ema"
    fake_labels: Literal["uniform", "training"] = "uniform"
    device: str = "cpu"
    precision: Wanted = "float32"
    compile: Literal[True, False, "auto"] = False
    ema: Literal["fitted", "row"] | None = None
    capture: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        if self.steps % self.snapshots:
            near = max(self.snapshots, self.steps // self.snapshots * self.snapshots)
            raise InputError(
                f"{self.snapshots} snapshots do not divide {self.steps} steps: use {near} or "
                f"{near + self.snapshots} steps"
            )

    @property
    def spacing(self) -> int:
        """Steps between snapshots."""
        return self.steps // self.snapshots

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """The steps at which snapshots are taken."""
        return tuple(range(self.spacing, self.steps + 1, self.spacing))

    @property
    def tunes(self) -> bool:
        """Whether cuDNN should try its algorithms out, 14 to 21 s per row on an H200.

        Narrow networks in float32 were up to three times slower without; short trainings in
        bfloat16 do not earn it back (docs/results/gpu.md). Torch cannot keep what was chosen for
        another process.
        """
        return self.precision != "bfloat16" or self.steps >= _EARNS_TUNING

    @property
    def checkpoint_spacing(self) -> int:
        """Steps between resume checkpoints."""
        return self.resume_every or self.spacing

    def optimiser(self, spec: GANSpec) -> Optimiser:
        """The row's optimiser with ``batch``, ``d_updates``, ``learning_rate`` applied."""
        optimiser = spec.optimiser
        return dataclasses.replace(
            optimiser,
            generator=self._scaled(optimiser.generator),
            discriminator=self._scaled(optimiser.discriminator),
            batch=self.batch or optimiser.batch,
            d_updates_per_step=self.d_updates or optimiser.d_updates_per_step,
        )

    def _scaled(self, adam: Adam) -> Adam:
        return dataclasses.replace(adam, learning_rate=adam.learning_rate * self.learning_rate)

    def average(self, spec: GANSpec) -> WeightAverage:
        """The row's weight average with ``ema_start`` and ``ema_decay`` applied."""
        average = spec.ema
        if not isinstance(average, FixedAverage):
            return average
        if (self.ema_start, self.ema_decay) == (None, None):
            fitted = self.ema != "row" and self.steps < PUBLISHED_STEPS
            return WarmedAverage(average.decay_rate) if fitted else average
        return FixedAverage(
            average.decay_rate if self.ema_decay is None else self.ema_decay,
            average.start if self.ema_start is None else self.ema_start,
        )

    def settled(self, before: Mapping[str, Any] | None) -> TrainSettings:
        """The settings with ``precision`` and ``ema`` decided, once for a whole training.

        Args:
            before: :meth:`identity` of the training that these settings continue, None for a new
                one. What was decided then stays.
        """
        precision, ema = self.precision, self.ema or "fitted"
        if precision == "auto":
            known = None if before is None else before.get("precision")
            precision = known or resolved_precision("auto", torch.device(self.device))
        if self.ema is None and before is not None:
            ema = before.get("ema", "row")  # settings recorded before there was a choice
        return dataclasses.replace(self, precision=precision, ema=ema)

    def identity(self) -> dict[str, Any]:
        """What two trainings must share for one to continue the other; :meth:`settled` first."""
        free = {"resume_every", "device", "compile", "capture"}
        values = {key: value for key, value in dataclasses.asdict(self).items() if key not in free}
        if values["ema"] != "fitted":
            del values["ema"]  # as trainings were recorded before there was a choice
        return values


PUBLISHED_STEPS = 100_000
"""Full steps of the trainings that the rows' averages were published for."""

_EARNS_TUNING = 20_000
"""Full steps of a training in bfloat16 that takes many minutes anyway."""


def problems(
    spec: GANSpec, settings: TrainSettings, n_images: int, *, elsewhere: bool = False
) -> list[str]:
    """Every reason why these settings cannot train this row on ``n_images`` reals.

    Args:
        spec, settings, n_images: of the training.
        elsewhere: the device and the compiler are those of another process, which will say more.
    """
    broken = []
    optimiser = settings.optimiser(spec)
    needed = optimiser.batch * optimiser.d_updates_per_step
    if needed > n_images:
        largest = n_images // optimiser.d_updates_per_step
        broken.append(
            f"a step needs {optimiser.d_updates_per_step} × {optimiser.batch} = {needed} real "
            f"images, the training split has {n_images}: "
            + (f"set batch to at most {largest}" if largest >= 2 else "lower batch and d_updates")
        )
    if elsewhere:
        return broken
    broken += _device_problems(settings.device) or precision_problems(
        settings.precision, torch.device(settings.device)
    )
    if settings.compile is True and lacks_compiler():
        broken.append(
            "compile: torch.compile needs a C++ compiler and none is on the PATH: install one, or "
            "leave compile off"
        )
    return broken


def lacks_compiler() -> bool:
    """Whether ``torch.compile`` will find no compiler for what it writes."""
    return not any(map(shutil.which, _COMPILERS))


_COMPILERS = ("c++", "g++", "clang++", "cc", "gcc", "clang")


def _device_problems(name: str) -> list[str]:
    try:
        device = torch.device(name)
    except RuntimeError:
        return [f"'{name}' is not a torch device: use cpu or cuda"]
    if device.type == "cuda" and not torch.cuda.is_available():
        return [f"device '{name}' needs an NVIDIA GPU, and torch sees none: use device cpu"]
    return []
