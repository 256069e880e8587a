"""The ensemble artifact: written once, verified at every opening, sampled by seed and index."""

from __future__ import annotations

from ensgan.ensemble.artifact import (
    TAG_DIGEST,
    MemberSource,
    is_whole_ensemble,
    load_ensemble,
    pull,
    verify_folder,
    write_bank,
    write_ensemble,
)
from ensgan.ensemble.card import markdown, non_commercial
from ensgan.ensemble.ensemble import Ensemble
from ensgan.ensemble.manifest import Manifest, ensemble_digest, unlisted_files

__all__ = [
    "TAG_DIGEST",
    "Ensemble",
    "Manifest",
    "MemberSource",
    "ensemble_digest",
    "is_whole_ensemble",
    "load_ensemble",
    "markdown",
    "non_commercial",
    "pull",
    "unlisted_files",
    "verify_folder",
    "write_bank",
    "write_ensemble",
]
