"""A sweep that has run: what its folder holds, found by name, folder or run ID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ensgan.config import SweepSpec, parse_spec
from ensgan.errors import DataError, EnsganError, InputError, unknown_name
from ensgan.files import read_json
from ensgan.search import pool_key, select
from ensgan.sweep.classifier_job import DatasetFiles
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.member_job import MemberResult
from ensgan.types import Front, PoolScores, Selection


@dataclass(frozen=True)
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
    failed: Mapping[str, str] | None = None

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


def find_sweep(source: str, storage: Path) -> SweepFolder:
    """The folder of a sweep, by its name, its folder or its run ID.

    Raises:
        InputError: there is none.
    """
    if (Path(source) / "manifest.json").is_file():
        return SweepFolder(Path(source))
    if (Path(source) / "ensemble.json").is_file():
        raise InputError(
            f"{source} is an ensemble and brings no real data: say on which to evaluate it, e.g. "
            "--dataset pneumoniamnist"
        )
    folders = [path.parent for path in sorted((storage / "sweeps").glob("*/manifest.json"))]
    for path in folders:
        if path.name == source or _run_id(SweepFolder(path)) == source:
            return SweepFolder(path)
    if not folders:
        raise InputError(
            f"{storage} holds no sweeps: name their folder with --storage, or run `ensgan sweep`"
        )
    known = [path.name for path in folders]
    raise InputError(
        f"{storage}: {unknown_name('sweep or run', source, known)} (a run ID is that of a "
        "sweep's latest run)"
    )


def open_sweep(source: str, storage: Path) -> FinishedSweep:
    """Read a finished sweep.

    Raises:
        InputError: no such sweep, or it has not come as far as its front.
        DataError: a file of it is missing or damaged.
    """
    folder = find_sweep(source, storage)
    manifest = folder.read()
    name = folder.path.name
    if "front" not in manifest or "selected" not in manifest:
        raise InputError(
            f"sweep '{name}' has not come to its front yet (status: "
            f"{manifest.get('status', 'not begun')}): run `ensgan sweep` again to finish it"
        )
    front = Front.load(Path(manifest["front"]))
    scores = _scores_of(folder, front)
    records = manifest["members"]
    absent = [member for member in scores.names if member not in records]
    if absent:
        raise DataError(f"the manifest of sweep '{name}' lacks the members {', '.join(absent)}")
    members = tuple(MemberResult.from_json(records[member]) for member in scores.names)
    for member in members:
        if not member.samples.is_file():
            raise DataError(
                f"the images of {member.name} are not where sweep '{name}' wrote them "
                f"({member.samples}): run `ensgan sweep` again to make them"
            )
    return FinishedSweep(
        folder,
        parse_spec(manifest["spec"], source=str(folder.manifest_path)),
        _dataset_files(folder, manifest["dataset"]),
        members,
        scores,
        front,
        _selection(manifest["selected"], front, name),
        _run_id(folder),
        manifest.get("failed", {}),
    )


def _run_id(folder: SweepFolder) -> str | None:
    """Run ID of the sweep's latest run, as the recording notes it."""
    try:
        state = read_json(folder.path / "recorded.json")
        run_id = state["runs"].get(folder.read()["spec"]["name"])
    except (EnsganError, KeyError, TypeError, AttributeError):
        return None
    return str(run_id) if run_id else None  # empty while the store is being asked for one


def _scores_of(folder: SweepFolder, front: Front) -> PoolScores:
    """The scores a front was searched in, known by their content key."""
    for path in sorted((folder.path / "scores").glob("scores-*.npz")):
        scores = PoolScores.load(path)
        if pool_key(scores) == front.pool:
            return scores
    raise DataError(
        f"{folder.path / 'scores'} does not hold the scores of the front: run `ensgan sweep` again"
    )


def _dataset_files(folder: SweepFolder, about: Mapping[str, Any]) -> DatasetFiles:
    key = str(about["key"])
    paths = {
        split: folder.path / "data" / f"{key[:16]}-{split}.npz"
        for split in ("train", "val", "test")
    }
    return DatasetFiles(str(about["name"]), tuple(about["classes"]), key, paths)


def _selection(about: Mapping[str, Any], front: Front, name: str) -> Selection:
    for point in front:
        if list(point.members) == list(about["members"]):
            return Selection(str(about["rule"]), point, str(about["reason"]))
    raise DataError(f"the ensemble that sweep '{name}' selected is not on its front")
