"""The ensemble artifact: written once, verified at every opening, sampled by seed and index."""

from ensgan.ensemble.artifact import TAG_DIGEST as TAG_DIGEST
from ensgan.ensemble.artifact import MemberSource as MemberSource
from ensgan.ensemble.artifact import is_whole_ensemble as is_whole_ensemble
from ensgan.ensemble.artifact import load_ensemble as load_ensemble
from ensgan.ensemble.artifact import pull as pull
from ensgan.ensemble.artifact import verify_folder as verify_folder
from ensgan.ensemble.artifact import write_bank as write_bank
from ensgan.ensemble.artifact import write_ensemble as write_ensemble
from ensgan.ensemble.card import non_commercial
from ensgan.ensemble.ensemble import Ensemble
from ensgan.ensemble.manifest import Manifest, ensemble_digest, unlisted_files
