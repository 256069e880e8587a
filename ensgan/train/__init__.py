"""How a GAN learns: steps, snapshots, exact resume."""

from ensgan.train.claim import GROWS as GROWS
from ensgan.train.claim import REVISION as REVISION
from ensgan.train.claim import find_training as find_training
from ensgan.train.claim import other_average as other_average
from ensgan.train.claim import starts_over as starts_over
from ensgan.train.loop import StopTraining as StopTraining
from ensgan.train.loop import TrainProgress as TrainProgress
from ensgan.train.loop import train_gan as train_gan
from ensgan.train.loop import train_steps as train_steps
from ensgan.train.loop import untrained as untrained
from ensgan.train.pack import Pack as Pack
from ensgan.train.pack import Turn as Turn
from ensgan.train.pack import in_turns as in_turns
from ensgan.train.settings import TrainSettings as TrainSettings
from ensgan.train.settings import problems as problems
from ensgan.train.snapshot import Snapshot as Snapshot
from ensgan.train.snapshot import is_finished as is_finished
from ensgan.train.snapshot import read_snapshot as read_snapshot
