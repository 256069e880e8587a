"""How a GAN learns: steps, snapshots, exact resume."""

from ensgan.train.claim import GROWS, REVISION, find_training, other_average, starts_over
from ensgan.train.loop import StopTraining, TrainProgress, train_gan, train_steps, untrained
from ensgan.train.pack import Pack, Turn, in_turns
from ensgan.train.settings import TrainSettings, problems
from ensgan.train.snapshot import Snapshot, is_finished, read_snapshot
