"""Training a GAN to its snapshots, resuming exactly where it was interrupted."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import torch

from ensgan.errors import IntegrityError, TrainingError
from ensgan.files import MISFITS, atomic_path, sha256_file
from ensgan.train.claim import AGAIN, STATE, claim, keep_later, owner, usable_state
from ensgan.train.pace import Steps, compile_settled
from ensgan.train.settings import TrainSettings
from ensgan.train.snapshot import Snapshot, examine, read_snapshot, snapshot_path, write_record
from ensgan.train.state import Record
from ensgan.train.training import Training
from ensgan.types import Samples
from ensgan.zoo.build import save_weights
from ensgan.zoo.table import GANSpec

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
        precision: that the training has, never "auto".
    """

    gan: str
    step: int
    steps: int
    losses: dict[str, float]
    seconds: float
    precision: str

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


OnProgress: TypeAlias = Callable[[TrainProgress], None]


class StopTraining(Exception):  # noqa: N818  a wish, no error
    """Raised by a progress callback: write a resume checkpoint of this step and end.

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

    The folder holds ``GAN@STEP.safetensors`` with its record, ``resume.pt``, the last state, and
    ``training.json``, which says what the training is. Killed at any moment, the same call
    continues from the last state, on the CPU bit for bit; so does one that asks for more steps.
    Snapshots before the last state, or after it is gone, are reached from the start again
    (:func:`ensgan.train.claim.starts_over`); finished ones stay as they are.

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
    (:class:`ensgan.train.Pack` does, in turns).
    """
    settings = claim(folder, spec, train, num_classes, settings)
    done = {}
    for step in settings.snapshot_steps:
        snapshot = read_snapshot(folder, f"{spec.name}@{step}")
        if snapshot is not None:
            done[step] = snapshot.sha256
            yield snapshot
    missing = [step for step in settings.snapshot_steps if step not in done]
    if not missing:
        return
    settings = compile_settled(spec, train, num_classes, settings)
    run = _Run(Training(spec, train, num_classes, settings), train, folder, on_progress, done)
    run.resume(missing[0])
    yield from run.until(missing[-1])


class _Run:
    """A training in progress in this process."""

    def __init__(
        self,
        training: Training,
        reals: Samples,
        folder: Path,
        on_progress: OnProgress | None = None,
        done: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self.training, self.reals, self.folder = training, reals, folder
        self.owner = owner(training.spec, reals.key, training.settings)
        self.spec, self.settings, self.on_progress = training.spec, training.settings, on_progress
        self.record = Record(self.spec.name)
        self.steps = Steps(training, self.record)
        self.flush_every = 1 if training.device.type == "cpu" else _FLUSH_EVERY
        self.done, self.state_file, self.drift = done, folder / STATE, ""
        self.seconds_in_part = 0.0
        self.seconds = 0.0

    def resume(self, first: int) -> None:
        """Continue from the last state that leads to the snapshot of step ``first``.

        A state that is already past it stays as it is: the steps up to it are repeated beside it.
        """
        path = usable_state(self.folder, first)
        if path is None or path.name == AGAIN:
            self.state_file = self.folder / (AGAIN if (self.folder / STATE).exists() else STATE)
        if path is None:
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            # Early versions did not record the training.
            if state.get("owner", self.owner) != self.owner:
                raise ValueError(f"it is of another training: {', '.join(state['owner'])}")
            self.training.load_state_dict(state["training"])
            self.record.load_state_dict(state["record"])
            self.seconds_in_part = float(state["seconds_in_part"])
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, *MISFITS) as e:
            # torch's own message about what it cannot unpickle advises to run the file's code.
            reason = "it is damaged" if isinstance(e, pickle.UnpicklingError) else e
            raise IntegrityError(
                f"{path} cannot be read ({reason}): delete it to train {self.spec.name} again from "
                "its start (finished snapshots are kept)"
            ) from e

    def until(self, last: int) -> Generator[Snapshot | None, None, None]:
        """Train to a step; yield after each step the snapshot it made, or None."""
        begin = time.perf_counter()
        while self.training.step < last:
            self._advance(begin)
            with self.steps.stream():
                snapshot = self._kept(last)
            begin = time.perf_counter()  # from here a step may wait for its turn in a pack
            yield snapshot
            if snapshot is not None:
                begin = time.perf_counter()

    def _kept(self, last: int) -> Snapshot | None:
        """Write what is due after a step: a snapshot, a checkpoint."""
        step, settings = self.training.step, self.settings
        snapshot = None
        if step % settings.spacing == 0:
            if step not in self.done:
                snapshot = self.snapshot(step)
            elif not self._is_as_before(step):
                self.drift = f"trained again, and not bit for bit as {self.spec.name}@{step} was"
            self.record.restart()
            self.seconds_in_part = 0.0
        if step == last or step % settings.checkpoint_spacing == 0:
            self._checkpoint()
        if step == last and self.state_file.name == AGAIN:
            keep_later(self.folder, step)
        return snapshot

    def _is_as_before(self, step: int) -> bool:
        """Whether a repeated step gives the weights of the snapshot that is kept."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            path = Path(folder) / "weights.safetensors"
            save_weights(self.training.snapshot_generator().state_dict(), path)
            return sha256_file(path) == self.done[step]

    def _advance(self, begin: float) -> None:
        """One step, which counts from ``begin``, and a look at the losses where it is due."""
        training = self.training
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
            precision = training.settings.precision
            progress = TrainProgress(self.spec.name, done, steps, losses, self.seconds, precision)
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
        augmentation = self.spec.augmentation.metrics(self.training.augment_state)
        metrics = {**self.record.means(), **augmentation}
        health = (*examine(generator, metrics, self.reals), *filter(None, [self.drift]))
        member = f"{self.spec.name}@{step}"
        path = snapshot_path(self.folder, member)
        # The record comes last: weights without one are those of a run that was killed here.
        save_weights(generator.state_dict(), path)
        seconds = self.seconds_in_part
        snapshot = Snapshot(member, path, sha256_file(path), metrics, health, seconds)
        write_record(snapshot, self.spec, generator, self.settings.weights)
        return snapshot

    def _checkpoint(self) -> None:
        state = {
            "training": self.training.state_dict(),
            "record": self.record.state_dict(),
            "seconds_in_part": self.seconds_in_part,
            "owner": self.owner,
        }
        with atomic_path(self.state_file) as temporary:
            torch.save(state, temporary)


def untrained(
    spec: GANSpec, train: Samples, num_classes: int, settings: TrainSettings, folder: Path
) -> Snapshot:
    """The generator before its first step as a snapshot ``GAN@0``, written once.

    Raises:
        ConfigError: the row does not fit the data.
        InputError: the folder belongs to another training.
    """
    settings = claim(folder, spec, train, num_classes, settings)
    snapshot = read_snapshot(folder, f"{spec.name}@{0}")
    if snapshot is not None:
        return snapshot
    training = Training(spec, train, num_classes, settings)
    return _Run(training, train, folder).snapshot(0)
