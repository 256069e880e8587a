"""Opening the folder of a sweep: which settings may have changed, and the lock of its writer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensgan import data
from ensgan.config import SweepSpec
from ensgan.errors import ConfigError
from ensgan.sweep.environment import environment
from ensgan.sweep.manifest import EARLIER_DEFAULTS, DatasetRecord, Losses, Manifest
from ensgan.sweep.records import MemberResult
from ensgan.types import Dataset, gan_of

if TYPE_CHECKING:
    from ensgan.config import SweepSpec
    from ensgan.sweep.folder import SweepFolder
    from ensgan.sweep.inputs import Resolved

EARLY_SECTIONS = ("seed", "dataset", "train")
"""Sections of a spec whose change would leave trained members behind."""
PLACES = ("data_dir", "plugins", "images", "generator", "weights")
"""Settings that name files: where these lie changes nothing, their content has keys of its own."""


class OpenManifest:
    """The manifest of a sweep in progress, and the one thing that writes it.

    A sweep that is finished stays as it is recorded until something is done for it again.

    Attributes:
        value: the manifest now.
        has_begun: something was done or is about to be, in this session.
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
        """Add results to the manifest; known ones change nothing."""
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
        """Mark the sweep as finished; writes nothing if nothing was done."""
        if self.has_begun:
            self._write(
                stages=self.seconds(session),
                status="failed" if self.value.failed else "finished",
                finished=time.time(),
            )

    def _write(self, **values: Any) -> None:
        self.value = self.value.model_copy(update=values)
        self.value.save(self.folder.manifest_path)
        self._on_write()


_LAST = ("orchestration", "total")


def carried_on(spec: SweepSpec, folder: SweepFolder) -> tuple[SweepSpec, str]:
    """The spec of a sweep that goes on, and what of it is as it was (empty where nothing is).

    What the spec does not name stays as the folder's sweep began with it where that was the
    default of an earlier version: a sweep is not made anew because a default has changed.

    Raises:
        DataError: the folder's manifest cannot be used.
    """
    if not folder.has_begun:
        return spec, ""
    before, kept = folder.read().settings, []
    for section, defaults in EARLIER_DEFAULTS.items():
        own = getattr(spec, section)
        same = {
            name: value
            for name, value in defaults.items()
            if name not in own.model_fields_set
            and value == getattr(getattr(before, section), name) != getattr(own, name)
        }
        kept += [f"{section}.{name} {value}" for name, value in same.items()]
        spec = spec.model_copy(update={section: own.model_copy(update=same)})
    if not kept:
        return spec, ""
    return spec, (
        f"sweep '{folder.path.name}' began with {' and '.join(kept)}, which were defaults then, "
        "and goes on with them: name others in its file, or with --set, to change that"
    )


def open_manifest(
    folder: SweepFolder, resolved: Resolved, on_write: Callable[[], None]
) -> OpenManifest:
    """The manifest of a new or resumed sweep.

    Raises:
        ConfigError: the folder's sweep trained on another spec.
        DataError: the folder's manifest cannot be used.
    """
    new = _new_manifest(resolved)
    if not folder.has_begun:
        return OpenManifest(folder, new, on_write)
    before = folder.read()
    changes = differences(_placeless(completed(before)), _placeless(new.spec))
    if before.dataset.key != new.dataset.key:
        changes.append(f"dataset: content {before.dataset.key[:12]} → {new.dataset.key[:12]}")
    early = [line for line in changes if line.split(".")[0].split(":")[0] in EARLY_SECTIONS]
    if early:
        raise ConfigError(
            f"{folder.path} holds sweep '{folder.path.name}' with another spec",
            [*early, "give this one another name (--set name=...) or start over with --fresh"],
        )
    if not changes:  # the spec stays as it was written: recorded runs are known by it
        return OpenManifest(folder, before, on_write)
    # A later stage changed: a new run, on the members already trained.
    members = {
        name: member
        for name, member in before.members.items()
        if gan_of(name) in (*new.gans, *new.external)
    }
    return OpenManifest(folder, new.model_copy(update={"members": members}), on_write)


def real_data(spec: SweepSpec, data_dir: Path | None) -> Dataset:
    """The data set of a spec, whose own ``dataset.data_dir`` comes before ``data_dir``.

    Raises:
        DataError: it cannot be read.
    """
    return data.load_dataset(
        spec.dataset.name,
        root=Path(spec.dataset.data_dir) if spec.dataset.data_dir else data_dir,
        image_size=spec.dataset.image_size,
        options=spec.dataset.options,
        seed=spec.seed,
    )


def _new_manifest(resolved: Resolved) -> Manifest:
    dataset = resolved.dataset
    return Manifest(
        spec=resolved.spec.model_dump(mode="json"),
        started=time.time(),
        planned=sum(settings.snapshots for settings in resolved.settings)
        + len(resolved.spec.members),
        gans=tuple(row.name for row in resolved.gans),
        external=tuple(member.name for member in resolved.spec.members),
        members={},
        variations={name: dict(values) for name, values in resolved.variations.items()},
        steps={
            row.name: settings.steps
            for row, settings in zip(resolved.gans, resolved.settings, strict=True)
        },
        dataset=DatasetRecord(
            name=dataset.name,
            key=dataset.key,
            source=dataset.source,
            classes=dataset.class_names,
            images={name: len(split) for name, split in dataset.splits().items()},
        ),
    )


def completed(manifest: Manifest) -> dict[str, Any]:
    """The recorded spec with today's defaults for settings that came later."""
    return manifest.settings.model_dump(mode="json")


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
