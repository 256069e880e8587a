"""Opening the folder of a sweep: which settings may have changed, and the lock of its writer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensgan import train
from ensgan.errors import ConfigError
from ensgan.files import content_key
from ensgan.sweep.environment import environment
from ensgan.sweep.manifest import DatasetRecord, Earlier, Losses, Manifest
from ensgan.sweep.member_job import REVISION
from ensgan.sweep.planning.cost import check_disk
from ensgan.sweep.planning.sweep_file import lacks
from ensgan.sweep.planning.variations import Configuration, configurations
from ensgan.sweep.records import MemberResult
from ensgan.types import row_of

if TYPE_CHECKING:
    from ensgan.sweep.folder import SweepFolder
    from ensgan.sweep.resolving import Resolved

FIXED_SECTIONS = ("seed", "dataset")
"""Sections whose change would invalidate every member; ``train`` is compared per GAN."""
PLACES = ("data_dir", "plugins", "images", "generator", "weights", "sweep")
"""Settings that name files: moving a file changes nothing, since keys come from its content."""


class OpenManifest:
    """The manifest of a sweep in progress, and the only writer of it.

    A finished sweep's manifest stays unchanged until there is new work for it.

    Attributes:
        value: the manifest now.
        has_begun: work was done, or is about to be done, in this session.
    """

    def __init__(self, folder: SweepFolder, value: Manifest, on_write: Callable[[], None]) -> None:
        self.folder, self.value, self._on_write = folder, value, on_write
        self._seconds_before = dict(value.stages)
        self.has_begun = False
        if value.status != "finished":
            self.begin()

    def begin(self) -> None:
        """Mark the sweep as running, with the versions of this machine."""
        if not self.has_begun:
            self.has_begun = True
            self._write(status="running", finished=None, failed={}, versions=environment())

    def save(self, **values: Any) -> None:
        """Add results to the manifest; those it has already change nothing."""
        if any(getattr(self.value, name) != value for name, value in values.items()):
            self.begin()
            self._write(**values)

    def add_member(self, result: MemberResult) -> None:
        """A member is finished."""
        if self.value.members.get(result.name) != result:
            self.save(members={**self.value.members, result.name: result})

    def add_loss(self, gan: str, kind: str) -> None:
        """A trial of the GAN is started again; ``kind`` is ``node`` or ``process``."""
        before = self.value.losses.get(gan, Losses())
        counted = before.model_copy(update={kind: getattr(before, kind) + 1})
        self.save(losses={**self.value.losses, gan: counted})

    def add_failures(self, reasons: Mapping[str, str]) -> None:
        """GANs that cannot be trained further, each with the reason."""
        self.save(failed={**self.value.failed, **reasons})

    def retry(self, gan: str) -> None:
        """A GAN that failed is tried again."""
        self.save(failed={name: why for name, why in self.value.failed.items() if name != gan})

    def seconds(self, session: Mapping[str, float]) -> dict[str, float]:
        """Seconds by stage of this session added to those of all earlier ones."""
        before = self._seconds_before
        names = [name for name in dict.fromkeys([*before, *session]) if name not in _LAST]
        return {
            name: round(before.get(name, 0.0) + session.get(name, 0.0), 3)
            for name in (*names, *_LAST)
        }

    def finish(self, session: Mapping[str, float]) -> None:
        """Mark the sweep as finished; writes nothing if no work was done."""
        if self.has_begun:
            self._write(
                stages=self.seconds(session),
                status="failed" if self.value.failed else "finished",
                finished=time.time(),
            )

    def _write(self, **values: Any) -> None:
        self.folder.require_in_place()
        self.value = self.value.model_copy(update=values)
        self.value.save(self.folder.manifest_path)
        self._on_write()


_LAST = ("orchestration", "total")


@dataclass(frozen=True)
class Changes:
    """How a sweep file differs from the sweep that its folder holds.

    Attributes:
        refused: settings that finished members were made with, old → new.
        settings: all settings that differ, old → new.
        added, removed: members by which the pools differ.
        again: GANs that would train from their start again, with the members for which.
    """

    refused: tuple[str, ...]
    settings: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    again: Mapping[str, tuple[str, ...]]

    def require(self, folder: SweepFolder, *, retrain: bool) -> None:
        """Refuse changes that are impossible, or costly and not confirmed.

        Raises:
            ConfigError: finished members would no longer match the file, or GANs would train again
                without ``retrain``.
        """
        if self.refused:
            raise ConfigError(
                f"{folder.path} holds sweep '{folder.path.name}' with another spec",
                [*self.refused, "give this one another name (--set name=...) or start over with "
                 "--fresh"],
            )  # fmt: skip
        if self.again and not retrain:
            raise ConfigError(
                f"sweep '{folder.path.name}' would train again what is finished",
                _once(
                    (
                        gan,
                        f"{', '.join(names)}: {gan} has no state that leads there and would train "
                        "from its start (its finished members stay): allow it with --retrain, or "
                        "leave them out",
                    )
                    for gan, names in self.again.items()
                ),
            )


def changes_of(folder: SweepFolder, before: Manifest, resolved: Resolved) -> Changes:
    """Compare a sweep file with what its folder holds; nothing is written."""
    new = _new_manifest(resolved)
    # Settings that came later have today's defaults on both sides.
    recorded = before.settings.model_dump(mode="json")
    lines = differences(_placeless(recorded), _placeless(new.spec))
    refused = [line for line in lines if re.split(r"[.:]", line)[0] in FIXED_SECTIONS]
    if before.dataset.key != new.dataset.key:
        line = f"dataset: content {before.dataset.key[:12]} → {new.dataset.key[:12]}"
        lines, refused = [*lines, line], [*refused, line]
    if not refused:  # otherwise every GAN would repeat a changed seed or data set
        refused = _changed_trainings(before, resolved)
        # A row shows only what follows from its width (channel counts): name the width itself too.
        refused = [
            *(line for line in lines if refused and line.startswith("train.width:")),
            *refused,
        ]
    were, names = before.planned_names, resolved.names
    places = training_folders(resolved, folder)
    again = {}
    for gan, place in zip(resolved.configurations, places, strict=True):
        if steps := train.starts_over(place, gan.name, gan.settings):
            again[gan.name] = tuple(f"{gan.name}@{step}" for step in steps)
    return Changes(
        tuple(refused),
        tuple(lines),
        tuple(name for name in names if name not in were),
        tuple(name for name in were if name not in names),
        again,
    )


def _changed_trainings(before: Manifest, resolved: Resolved) -> list[str]:
    """Settings in which known GANs differ; training for longer is no difference."""
    changed: list[tuple[str, str]] = []
    old = configurations(before.settings, many=True, drawn=before.variations)[0]
    were = {each.name: each for each in old if each.name in before.gans}
    for gan in resolved.configurations:
        if was := were.get(gan.name):
            lines = differences(_made_with(was), _made_with(gan), f"train.{gan.name}")
            other = train.other_average(gan.row, was.settings, gan.settings)
            changed += [(gan.name, line) for line in lines or other]
    return _once(changed)


def _once(lines: Iterable[tuple[str, str]]) -> list[str]:
    """Lines about configurations; variations of one GAN with the same line share it."""
    alike: dict[tuple[str, str], list[str]] = {}
    for name, line in lines:
        row = row_of(name)
        alike.setdefault((row, line.replace(name, row)), []).append(line)
    return [
        line + (f" (and so for {len(others)} more of {row})" if others else "")
        for (row, _), (line, *others) in alike.items()
    ]


def _made_with(gan: Configuration) -> dict[str, Any]:
    """The settings on which the finished members of a GAN depend."""
    values = gan.settings.identity()
    return {**gan.row.to_json(), **{k: v for k, v in values.items() if k not in train.GROWS}}


def open_manifest(
    folder: SweepFolder,
    resolved: Resolved,
    on_write: Callable[[], None],
    *,
    retrain: bool = False,
) -> OpenManifest:
    """The manifest of a new, resumed or grown sweep.

    Args:
        retrain: GANs may train from scratch where no checkpoint leads to a wanted snapshot.

    Raises:
        ConfigError: the folder's sweep trained on another spec, or :meth:`Changes.require`.
        DataError: the folder's manifest cannot be used.
        InputError: the disk is too small.
    """
    new = _new_manifest(resolved)
    before = folder.read() if folder.has_begun else None
    if before is None or before.status != "finished":
        check_disk(resolved, folder.path)
    if before is None:
        return OpenManifest(folder, new, on_write)
    changes = changes_of(folder, before, resolved)
    changes.require(folder, retrain=retrain)
    if not (changes.settings or changes.added or changes.removed):
        # The spec stays as it was written, because recorded runs are identified by it.
        return OpenManifest(folder, before, on_write)
    # A new run, on the members already there.
    names = set(resolved.names)
    members = {name: member for name, member in before.members.items() if name in names}
    earlier = earlier_pool(folder, before, changes)
    kept = tuple(each for each in before.additions if not lacks(resolved.spec, each))
    return OpenManifest(
        folder,
        new.model_copy(update={"members": members, "earlier": earlier, "additions": kept}),
        on_write,
    )


def earlier_pool(folder: SweepFolder, before: Manifest, changes: Changes) -> Earlier:
    """The pool from which the next one grows: the last that was scored."""
    scored = before.scores is not None or before.earlier is None
    source = None if scored else before.earlier
    features = {name: member.features for name, member in before.members.items()}
    return Earlier(
        run=folder.run_id() or "",
        scores=before.scores if source is None else source.scores,
        features=features if source is None else source.features,
        added=changes.added,
        removed=changes.removed,
    )


def training_folders(resolved: Resolved, folder: SweepFolder) -> list[Path]:
    """Each GAN's training folder: that of an earlier training which can go on, or a new one."""
    root, data = folder.path / "train", resolved.dataset.train.key
    known = sorted(path for path in root.iterdir()) if root.exists() else []
    places = []
    for gan in resolved.configurations:
        row, settings = gan.row, gan.settings
        key = content_key(REVISION, train.REVISION, row.to_json(), settings.identity(), data)
        place = root / f"{gan.name}-{key}"
        if not place.exists():
            of_row = [path for path in known if path.name.startswith(f"{gan.name}-")]
            classes = resolved.dataset.num_classes
            place = train.find_training(of_row, row, data, classes, settings) or place
        places.append(place)
    return places


def _new_manifest(resolved: Resolved) -> Manifest:
    dataset = resolved.dataset
    return Manifest(
        spec=resolved.spec.model_dump(mode="json"),
        started=time.time(),
        planned=len(resolved.names),
        external=tuple(member.name for member in resolved.spec.members),
        members={},
        dataset=DatasetRecord(
            name=dataset.name,
            key=dataset.key,
            source=dataset.source,
            classes=dataset.class_names,
            images={name: len(split) for name, split in dataset.splits().items()},
        ),
        **resolved.record(),
    )


def _placeless(tree: Any, key: str = "") -> Any:
    """A spec whose files are named without their folders."""
    if isinstance(tree, dict):
        return {name: _placeless(value, name) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_placeless(value, key) for value in tree]
    return Path(tree).name if key in PLACES and isinstance(tree, str) else tree


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Leaves at which two trees differ, one line each: ``a.b: old → new``."""
    if isinstance(before, dict) and isinstance(after, dict):
        lines = []
        for key in sorted({*before, *after}):
            lines += differences(
                before.get(key), after.get(key), f"{path}.{key}" if path else str(key)
            )
        return lines
    return [] if before == after else [f"{path}: {before!r} → {after!r}"]
