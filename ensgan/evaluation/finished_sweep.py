"""A sweep that has run: what its folder holds, found by name, folder or run ID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ensgan.config import SweepSpec
from ensgan.errors import DataError, InputError
from ensgan.search import pool_key, select
from ensgan.sweep.classifier_job import DatasetFiles
from ensgan.sweep.folder import SweepFolder, find_sweep
from ensgan.sweep.manifest import DatasetRecord, SelectedRecord
from ensgan.sweep.records import MemberResult
from ensgan.types import Front, PoolScores, Selection


@dataclass(frozen=True, kw_only=True)
class FinishedSweep:
    """A pool with its scores, its front and G*, ready to be evaluated.

    Attributes:
        folder: of the sweep.
        spec: what was run.
        dataset: the real data, on the sweep's storage.
        members: in pool order.
        scores, front, selected: as the sweep found them.
        run_id: of the parent run, None when it was not recorded.
        failed: GANs that failed, with the reason.
    """

    folder: SweepFolder
    spec: SweepSpec
    dataset: DatasetFiles
    members: tuple[MemberResult, ...]
    scores: PoolScores
    front: Front
    selected: Selection
    run_id: str | None = None
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def samples(self) -> dict[str, Path]:
        """File with the images of every member."""
        return {member.name: member.samples for member in self.members}

    def chosen_by(self, rule: str) -> FinishedSweep:
        """The same sweep with G* chosen by another rule.

        Raises:
            InputError: there is no such rule, or it needs more than the front.
        """
        if rule == self.selected.rule:
            return self
        return replace(self, selected=select(self.front, rule, pool=self.scores))


def open_sweep(source: str, storage: Path) -> FinishedSweep:
    """Read a finished sweep.

    Args:
        source: its name, its folder, or the ID of a run recorded for it.

    Raises:
        InputError: no such sweep, or it has not come as far as its front.
        DataError: a file of it is missing or damaged.
    """
    folder = find_sweep(source, storage)
    manifest = folder.read()
    name = folder.path.name
    if manifest.front is None or manifest.selected is None:
        raise InputError(
            f"sweep '{name}' has not come to its front yet (status: {manifest.status}): run "
            "`ensgan sweep` again to finish it"
        )
    front = Front.load(manifest.front)
    scores = _scores_of(folder, front)
    absent = [member for member in scores.names if member not in manifest.members]
    if absent:
        raise DataError(f"the manifest of sweep '{name}' lacks the members {', '.join(absent)}")
    members = tuple(manifest.members[member] for member in scores.names)
    for member in members:
        if not member.samples.is_file():
            raise DataError(
                f"the images of {member.name} are not where sweep '{name}' wrote them "
                f"({member.samples}): run `ensgan sweep` again to make them"
            )
    return FinishedSweep(
        folder=folder,
        spec=manifest.settings,
        dataset=_dataset_files(folder, manifest.dataset),
        members=members,
        scores=scores,
        front=front,
        selected=_selection(manifest.selected, front, name),
        run_id=folder.run_id(),
        failed=manifest.failed,
    )


def _scores_of(folder: SweepFolder, front: Front) -> PoolScores:
    """The scores a front was searched in, known by their content key."""
    for path in sorted((folder.path / "scores").glob("scores-*.npz")):
        try:
            scores = PoolScores.load(path)
        except DataError:  # of another search, or the wanted ones: then it is said below
            continue
        if pool_key(scores) == front.pool:
            return scores
    raise DataError(
        f"{folder.path / 'scores'} does not hold the scores of the front: run `ensgan sweep` again"
    )


def _dataset_files(folder: SweepFolder, about: DatasetRecord) -> DatasetFiles:
    paths = {split: folder.real_images(about.key, split) for split in ("train", "val", "test")}
    return DatasetFiles(about.name, about.classes, about.key, paths)


def _selection(about: SelectedRecord, front: Front, name: str) -> Selection:
    for point in front:
        if point.members == about.members:
            return Selection(about.rule, point, about.reason)
    raise DataError(f"the ensemble that sweep '{name}' selected is not on its front")
