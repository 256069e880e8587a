"""Training a GAN to its snapshots, resuming exactly where it was interrupted."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from ensgan.errors import ConfigError, InputError, IntegrityError, TrainingError
from ensgan.files import atomic_path, read_json, write_json
from ensgan.train.captured import Steps
from ensgan.train.settings import TrainSettings, problems
from ensgan.train.snapshot import Snapshot, examine, read_snapshot, write_snapshot
from ensgan.train.step import Record
from ensgan.train.training import Training
from ensgan.types import MemberId, Samples
from ensgan.zoo.spec import GANSpec

REVISION = 4
"""Raise it when a change of this package or of ``ensgan.zoo`` makes trainings that an earlier
version began unfit to go on. The order of floating-point sums is no reason: folders of trainings
are found by this number.
"""

_FLUSH_EVERY = 50
"""Steps between looks at the losses on a GPU; on the CPU looking costs nothing."""


@dataclass(frozen=True)
class TrainProgress:
    """How far a training is.

    Attributes:
        gan: name of the row.
        step, steps: completed, and in all.
        losses: of the last step.
        seconds: of training in this process.
    """

    gan: str
    step: int
    steps: int
    losses: dict[str, float]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


OnProgress: TypeAlias = Callable[[TrainProgress], None]


class StopTraining(Exception):  # noqa: N818  a wish, no error
    """Raised by whoever is told about progress: write a resume checkpoint of this step and end.

    At a snapshot's own step the training goes on, because the snapshot comes first; ask again.
    """


def train_gan(
    spec: GANSpec,
    train: Samples,
    num_classes: int,
    settings: TrainSettings,
    folder: Path,
    *,
    on_progress: OnProgress | None = None,
) -> Iterator[Snapshot]:
    """Train a row and yield its snapshots as they are made; those on disk come first.

    The folder holds ``GAN@STEP.safetensors`` with its record, ``resume.pt`` until the last
    snapshot is written, and ``training.json``, which says what the training is. Killed at any
    moment, the same call continues from the last resume checkpoint, on the CPU bit for bit.

    Args:
        spec: the row, already scaled.
        train: the real training split.
        num_classes: number of classes of the data.
        settings: how long, which seed, which overrides.
        folder: of this training alone; created.
        on_progress: called after every step on the CPU, after every 50 steps on a GPU.

    Raises:
        ConfigError: the row or the settings do not fit the data.
        InputError: the folder belongs to another training; names the differences.
        IntegrityError: a file of the folder is damaged.
        TrainingError: a loss is not finite, or the device is out of memory.
        StopTraining: ``on_progress`` raised it; the checkpoint is written.
    """
    steps = train_steps(spec, train, num_classes, settings, folder, on_progress=on_progress)
    return (snapshot for snapshot in steps if snapshot is not None)


def train_steps(
    spec: GANSpec,
    train: Samples,
    num_classes: int,
    settings: TrainSettings,
    folder: Path,
    *,
    on_progress: OnProgress | None = None,
) -> Generator[Snapshot | None, None, None]:
    """:func:`train_gan` in single steps: yields after each the snapshot it made, or None.

    To train several GANs in one process, alternate between their generators
    (:class:`ensgan.train.Pack`).
    """
    settings = _claim(folder, spec, train, num_classes, settings)
    done = []
    for step in range(settings.spacing, settings.steps + 1, settings.spacing):
        snapshot = read_snapshot(folder, MemberId(spec.name, step))
        if snapshot is not None:
            done.append(step)
            yield snapshot
    if len(done) == settings.snapshots:
        (folder / "resume.pt").unlink(missing_ok=True)
        return
    run = _Run(Training(spec, train, num_classes, settings), train, folder, on_progress)
    run.resume()
    yield from run.rest(done)


class _Run:
    """A training in progress in this process."""

    def __init__(
        self, training: Training, reals: Samples, folder: Path, on_progress: OnProgress | None
    ) -> None:
        self.training, self.reals, self.folder = training, reals, folder
        self.spec, self.settings, self.on_progress = training.spec, training.settings, on_progress
        self.record = Record(self.spec.name)
        self.steps = Steps(training, self.record)
        self.flush_every = 1 if training.device.type == "cpu" else _FLUSH_EVERY
        self.seconds_in_part = 0.0
        self.seconds = 0.0

    def resume(self) -> None:
        """Continue from ``resume.pt`` if it is there."""
        path = self.folder / "resume.pt"
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.training.load_state_dict(state["training"])
            self.record.load_state_dict(state["record"])
            self.seconds_in_part = float(state["seconds_in_part"])
        except (OSError, EOFError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as e:
            raise IntegrityError(
                f"{path} cannot be read ({e}): delete it to train {self.spec.name} again from its "
                "start (finished snapshots are kept)"
            ) from e

    def rest(self, done: list[int]) -> Generator[Snapshot | None, None, None]:
        """Train to the end; yield after each step the snapshot it made, or None."""
        while self.training.step < self.settings.steps:
            self._advance()
            with self.steps.stream():
                snapshot = self._kept(done)
            yield snapshot

    def _kept(self, done: list[int]) -> Snapshot | None:
        """Write what is due after a step: a snapshot, a checkpoint."""
        step, settings = self.training.step, self.settings
        snapshot = None
        if step % settings.spacing == 0:
            if step not in done:
                snapshot = self.snapshot(step)
            self.record.restart()
            self.seconds_in_part = 0.0
        if step == settings.steps:
            (self.folder / "resume.pt").unlink(missing_ok=True)
        elif step % settings.checkpoint_spacing == 0:
            self._checkpoint()
        return snapshot

    def _advance(self) -> None:
        """One step, and a look at the losses where it is due."""
        training, begin = self.training, time.perf_counter()
        step = training.step
        try:
            self.steps.step()
            done = training.step
            due = done % self.flush_every == 0 or done % self.settings.spacing == 0
            if due or done % self.settings.checkpoint_spacing == 0:
                with self.steps.stream():
                    self.record.flush()
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"{self.spec.name} does not fit into the memory of {training.device} at step "
                f"{step}: lower batch or width, or run fewer trials at once"
            ) from error
        elapsed = time.perf_counter() - begin
        self.seconds_in_part += elapsed
        self.seconds += elapsed
        if due and self.on_progress is not None:
            steps, losses = self.settings.steps, self.record.latest
            progress = TrainProgress(self.spec.name, done, steps, losses, self.seconds)
            try:
                self.on_progress(progress)
            except StopTraining:
                if done % self.settings.spacing:  # else the snapshot would be passed over
                    with self.steps.stream():
                        self._checkpoint()
                    raise

    def snapshot(self, step: int) -> Snapshot:
        """Write the generator as it is now."""
        generator = self.training.snapshot_generator()
        metrics = {
            **self.record.means(),
            **self.spec.augmentation.metrics(self.training.augment_state),
        }
        return write_snapshot(
            generator,
            self.spec,
            MemberId(self.spec.name, step),
            self.folder,
            weights=self.settings.weights,
            metrics=metrics,
            health=examine(generator, metrics, self.reals),
            seconds=self.seconds_in_part,
        )

    def _checkpoint(self) -> None:
        state = {
            "training": self.training.state_dict(),
            "record": self.record.state_dict(),
            "seconds_in_part": self.seconds_in_part,
        }
        with atomic_path(self.folder / "resume.pt") as temporary:
            torch.save(state, temporary)


def untrained(
    spec: GANSpec, train: Samples, num_classes: int, settings: TrainSettings, folder: Path
) -> Snapshot:
    """The generator before its first step as a snapshot ``GAN@0``, written once.

    Raises:
        ConfigError: the row does not fit the data.
        InputError: the folder belongs to another training.
    """
    settings = _claim(folder, spec, train, num_classes, settings)
    snapshot = read_snapshot(folder, MemberId(spec.name, 0))
    if snapshot is not None:
        return snapshot
    training = Training(spec, train, num_classes, settings)
    return _Run(training, train, folder, None).snapshot(0)


def _claim(
    folder: Path, spec: GANSpec, train: Samples, num_classes: int, settings: TrainSettings
) -> TrainSettings:
    """Check everything, then mark the folder as this training's, or refuse it with the differences.

    Returns:
        The settings, with everything decided that a new training decides.
    """
    found = spec.problems(train.shape, num_classes) + problems(spec, settings, len(train))
    if len(train) and not 0 <= int(train.labels.min()) <= int(train.labels.max()) < num_classes:
        found.append(
            f"labels run from {train.labels.min()} to {train.labels.max()}, but the data is said "
            f"to have {num_classes} classes"
        )
    if found:
        raise ConfigError(f"GAN {spec.name}", found)
    path = folder / "training.json"
    before = read_json(path) if path.exists() else None
    settings = settings.settled(None if before is None else before.get("settings", {}))
    identity = {
        "revision": REVISION,
        "row": spec.to_json(),
        "settings": settings.identity(),
        "data": train.key,
        "num_classes": num_classes,
    }
    if before is None:
        write_json(path, identity)
        return settings
    old, new = _flat(before), _flat(identity)
    differing = [
        f"{key} was {old.get(key)!r}, is now {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if differing:
        raise InputError(
            f"{folder} belongs to another training of {spec.name}: {'; '.join(differing)}; use "
            "another folder, or delete this one"
        )
    return settings


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping with dotted keys."""
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, entry in items:
        flat.update(_flat(entry, f"{prefix}.{key}" if prefix else str(key)))
    return flat
