"""Work of later stages that can be done while the last GANs still train.

An executor with free slots asks for it, piece by piece. Every piece leaves its result where its
stage looks first, so that one that was never done, or failed, changes nothing but the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensgan import metrics
from ensgan.errors import EnsganError
from ensgan.files import content_key
from ensgan.sweep import stages
from ensgan.sweep.classifier_job import evaluate
from ensgan.sweep.executor import Piece
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Inputs, Resolved
from ensgan.sweep.member_job import MemberResult
from ensgan.sweep.search_stage import mapped
from ensgan.types import PoolScores

GROWTH = 0.1
"""Part of the planned members that must be new before the pool is scored again."""


@dataclass(frozen=True)
class PoolPart:
    """Members whose scores are computed ahead.

    Attributes:
        names, features: of the members, in the order in which they were finished.
        reference: ``.npy`` of the real training split's features.
        k, backend, memory_bytes, extractor: see :class:`ensgan.metrics.PoolOptions`.
        known: scores of an earlier part, if any.
        path: where the scores go.
    """

    names: tuple[str, ...]
    features: tuple[Path, ...]
    reference: Path
    k: int
    backend: str
    memory_bytes: int
    extractor: str
    known: Path | None
    path: Path


def score_part(part: PoolPart) -> Path:
    """Score the part, or find that done; its file."""
    if not part.path.exists():
        metrics.score_pool(
            mapped(part.reference),
            [mapped(path) for path in part.features],
            part.names,
            k=part.k,
            backend=part.backend,
            memory_bytes=part.memory_bytes,
            extractor=part.extractor,
            known=None if part.known is None else PoolScores.load(part.known),
        ).save(part.path)
    return part.path


class Ahead:
    """What of a sweep's later stages is ready.

    Two things are: the scores of the members there are, and the classifiers on real images.
    """

    def __init__(
        self, folder: SweepFolder, resolved: Resolved, inputs: Inputs, planned: int
    ) -> None:
        self.folder, self.spec, self.inputs = folder, resolved.spec, inputs
        self.growth = max(2, round(GROWTH * planned))
        self._parts: list[PoolPart] = []
        self._classifiers = [
            job for job in stages.real_jobs(folder, resolved, inputs) if not job.path.exists()
        ]

    def next(self, members: Sequence[MemberResult]) -> Piece | None:
        """The next piece, given the members so far; None when nothing is ready."""
        part = self._part(members)
        if part is not None:
            self._parts.append(part)
            return Piece(score_part, part)
        if self._classifiers:
            return Piece(evaluate, self._classifiers.pop(0))
        return None

    def known(self) -> PoolScores | None:
        """The scores of the largest part that is finished."""
        for part in reversed(self._parts):
            if part.path.exists():
                try:
                    return PoolScores.load(part.path)
                except EnsganError:  # they can be computed again
                    return None
        return None

    def discard(self) -> None:
        """Remove the parts' files: the pool's scores hold all that they do."""
        for part in self._parts:
            part.path.unlink(missing_ok=True)

    def _part(self, members: Sequence[MemberResult]) -> PoolPart | None:
        """What the pool has grown by, one part at a time."""
        last = self._parts[-1] if self._parts else None
        done = 0 if last is None else len(last.names)
        # Resamples are drawn for a whole pool at once.
        if self.spec.score.resamples or len(members) - done < self.growth:
            return None
        if last is not None and not last.path.exists():
            return None
        features = tuple(member.features for member in members)
        key = content_key(
            stages.REVISION,
            self.inputs.reference.name,
            [path.name for path in features],
            self.spec.score.k,
        )
        return PoolPart(
            names=tuple(member.name for member in members),
            features=features,
            reference=self.inputs.reference,
            k=self.spec.score.k,
            backend=self.spec.score.backend,
            memory_bytes=int(self.spec.score.memory_gb * 2**30),
            extractor=self.inputs.extractor_key,
            known=None if last is None else last.path,
            path=self.folder.file("scores", f"early-{key}.npz"),
        )
