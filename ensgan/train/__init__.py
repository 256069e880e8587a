"""How a GAN learns: steps, snapshots, exact resume."""

from __future__ import annotations

from ensgan.train.loop import (
    REVISION,
    StopTraining,
    TrainProgress,
    train_gan,
    train_steps,
    untrained,
)
from ensgan.train.pack import Ended, Pack
from ensgan.train.settings import TrainSettings, problems
from ensgan.train.snapshot import Snapshot, is_finished

__all__ = [
    "REVISION",
    "Ended",
    "Pack",
    "Snapshot",
    "StopTraining",
    "TrainProgress",
    "TrainSettings",
    "is_finished",
    "problems",
    "train_gan",
    "train_steps",
    "untrained",
]
