"""How a GAN learns: steps, snapshots, exact resume."""

from __future__ import annotations

from ensgan.train.claim import GROWS, REVISION, find_training, other_average, starts_over
from ensgan.train.loop import TrainProgress, train_gan, train_steps, untrained
from ensgan.train.pack import Ended, Pack
from ensgan.train.settings import TrainSettings, problems
from ensgan.train.snapshot import Snapshot, is_finished, read_snapshot

__all__ = [
    "GROWS",
    "REVISION",
    "Ended",
    "Pack",
    "Snapshot",
    "TrainProgress",
    "TrainSettings",
    "find_training",
    "is_finished",
    "other_average",
    "problems",
    "read_snapshot",
    "starts_over",
    "train_gan",
    "train_steps",
    "untrained",
]
