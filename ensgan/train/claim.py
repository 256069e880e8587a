"""Which training a folder belongs to: the same one may go on, to more steps or snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ensgan.errors import ConfigError, DataError, InputError
from ensgan.files import read_json, write_json
from ensgan.train.settings import TrainSettings, problems
from ensgan.train.snapshot import is_finished
from ensgan.types import Samples
from ensgan.zoo.table import GANSpec

REVISION = 4
"""Raise it when, after a change of this package or of ``ensgan.zoo``, trainings begun by an earlier
version cannot go on. The order of floating-point sums is no reason: folders of trainings are found
by this number.
"""
STATE = "resume.pt"
"""The last state of a training; it stays after the last snapshot, for more."""
AGAIN = "again.pt"
"""The state of a training that repeats its steps up to snapshots before its last state."""
GROWS = ("steps", "snapshots")
"""Settings that may change when a training goes on."""


def claim(
    folder: Path, spec: GANSpec, train: Samples, num_classes: int, settings: TrainSettings
) -> TrainSettings:
    """Check everything, then mark the folder as this training's.

    Returns:
        The settings, with everything decided that a new training decides.

    Raises:
        ConfigError: the row or the settings do not fit the data.
        InputError: the folder belongs to another training; names the differences.
    """
    broken = spec.problems(train.shape, num_classes) + problems(spec, settings, len(train))
    if len(train) and not 0 <= int(train.labels.min()) <= int(train.labels.max()) < num_classes:
        broken.append(
            f"labels run from {train.labels.min()} to {train.labels.max()}, but the data is said "
            f"to have {num_classes} classes"
        )
    if broken:
        raise ConfigError(f"GAN {spec.name}", broken)
    before = _claimed(folder)
    settings = settings.settled(None if before is None else before.get("settings", {}))
    identity = _identity(spec, train.key, num_classes, settings)
    if before == identity:
        return settings
    if before is not None and (differing := _differing(before, identity, spec, settings)):
        raise InputError(
            f"{folder} belongs to another training of {spec.name}: {'; '.join(differing)}; use "
            "another folder, or delete this one"
        )
    write_json(folder / "training.json", identity)
    return settings


def owner(spec: GANSpec, data: str, settings: TrainSettings) -> list[str]:
    """What a state records of its training, so that no other one goes on from it."""
    return [spec.name, data, str(settings.seed)]


def find_training(
    folders: Iterable[Path], spec: GANSpec, data: str, num_classes: int, settings: TrainSettings
) -> Path | None:
    """The first of some folders whose training these settings continue; None where none does.

    Args:
        folders: of trainings, also of other rows.
        data: key of the training split.
    """
    for folder in folders:
        before = None
        with suppress(DataError):  # the training that opens it reports the damage
            before = _claimed(folder)
        if before is not None:
            settled = settings.settled(before.get("settings", {}))
            identity = _identity(spec, data, num_classes, settled)
            if not _differing(before, identity, spec, settled):
                return folder
    return None


def starts_over(folder: Path, gan: str, settings: TrainSettings) -> list[int]:
    """Steps of snapshots that an existing training can only reach from its start again.

    They lie before the last state that is kept, or none is kept any more. Empty for trainings that
    only go on as they began.
    """
    before = (_claimed(folder) or {}).get("settings", {})
    missing = [step for step in settings.snapshot_steps if not is_finished(folder, f"{gan}@{step}")]
    asked = {name: getattr(settings, name) for name in GROWS}
    if not missing or not before or {name: before.get(name) for name in GROWS} == asked:
        return []
    has_made = any(folder.glob("*@*.safetensors"))
    return missing if has_made and usable_state(folder, missing[0]) is None else []


def usable_state(folder: Path, first: int) -> Path | None:
    """The latest state from before a step.

    One that cannot be read counts as usable: loading it then reports the damage.
    """
    states = [
        (step, path)
        for path in (folder / STATE, folder / AGAIN)
        if path.exists() and (step := _step_of(path)) < first
    ]
    return max(states)[1] if states else None


def keep_later(folder: Path, step: int) -> None:
    """Repeated steps have ended at ``step``: the later of the two states stays."""
    if step > _step_of(folder / STATE):
        (folder / AGAIN).replace(folder / STATE)
    else:
        (folder / AGAIN).unlink(missing_ok=True)


def _step_of(path: Path) -> int:
    """The step of a state, 0 where it cannot be read; its tensors stay on disk."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return int(state["training"]["step"])
    except Exception:  # torch raises errors of any kind for damaged archives
        return 0


def _claimed(folder: Path) -> dict[str, Any] | None:
    """What ``training.json`` says; None where there is none."""
    path = folder / "training.json"
    return read_json(path) if path.exists() else None


def _identity(
    spec: GANSpec, data: str, num_classes: int, settings: TrainSettings
) -> dict[str, Any]:
    return {
        "revision": REVISION,
        "row": spec.to_json(),
        "settings": settings.identity(),
        "data": data,
        "num_classes": num_classes,
    }


def _differing(
    before: Mapping[str, Any], now: Mapping[str, Any], spec: GANSpec, settings: TrainSettings
) -> list[str]:
    """Differences that keep one training from going on as the other, a sentence each."""
    old, new = flat(before), flat(now)
    lines = [
        f"{key} was {old.get(key)!r}, is now {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key.removeprefix("settings.") not in GROWS
    ]
    grown = {name: value for name in GROWS if (value := old.get(f"settings.{name}")) is not None}
    return lines or other_average(spec, replace(settings, **grown), settings)


def other_average(spec: GANSpec, before: TrainSettings, now: TrainSettings) -> list[str]:
    """A sentence where more steps would change how a row's weights are averaged from the start."""
    if before.average(spec) == now.average(spec):
        return []
    return [
        f"steps was {before.steps}, is now {now.steps}: trainings of that length of {spec.name} "
        "average its weights in another way"
    ]


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping with dotted keys."""
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {prefix: value}
    leaves: dict[str, Any] = {}
    for key, entry in items:
        leaves.update(flat(entry, f"{prefix}.{key}" if prefix else str(key)))
    return leaves
