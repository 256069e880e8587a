"""How a GAN learns: steps, snapshots, exact resume."""

from __future__ import annotations

from ensgan.train.loop import REVISION, TrainProgress, train_gan, untrained
from ensgan.train.settings import TrainSettings, problems
from ensgan.train.snapshot import Snapshot, is_finished, load_snapshot

__all__ = [
    "REVISION",
    "Snapshot",
    "TrainProgress",
    "TrainSettings",
    "is_finished",
    "load_snapshot",
    "problems",
    "train_gan",
    "untrained",
]
