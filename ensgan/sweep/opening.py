"""The manifest of a sweep that begins or goes on, and what may have changed in between."""

from __future__ import annotations

import time
from typing import Any

from ensgan.config import parse_spec
from ensgan.errors import ConfigError
from ensgan.sweep.environment import environment
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Resolved

EARLY_SECTIONS = ("seed", "dataset", "train")
"""Sections of a spec whose change would leave trained members behind."""


def opened_manifest(folder: SweepFolder, resolved: Resolved) -> dict[str, Any]:
    """The manifest of a new or resumed sweep.

    Raises:
        ConfigError: the folder's sweep trained on another spec.
    """
    spec = resolved.spec.model_dump(mode="json")
    manifest = folder.read()
    before = manifest.get("spec")
    before = None if before is None else completed(before)
    if before is not None and before != spec:
        changes = differences(before, spec)
        early = [line for line in changes if line.split(".")[0].split(":")[0] in EARLY_SECTIONS]
        if early:
            raise ConfigError(
                f"{folder.path} holds sweep '{spec['name']}' with another spec",
                [*early, "give this one another name (--set name=...) or start over with --fresh"],
            )
        # A later stage changed: a new run, on the members already trained.
        manifest = {"schema": manifest["schema"], "members": manifest.get("members", {})}
    manifest.update(
        spec=spec,
        status="running",
        members=manifest.get("members", {}),
        failed={},
        losses=manifest.get("losses", {}),
        gans=[row.name for row in resolved.gans],
        outside=[member.name for member in resolved.spec.members],
        steps={
            row.name: settings.steps
            for row, settings in zip(resolved.gans, resolved.settings, strict=True)
        },
        planned=sum(settings.snapshots for settings in resolved.settings)
        + len(resolved.spec.members),
        started=manifest.get("started", time.time()),
        dataset={
            "name": resolved.dataset.name,
            "key": resolved.dataset.key,
            "source": resolved.dataset.source,
            "classes": list(resolved.dataset.class_names),
            "images": {name: len(split) for name, split in resolved.dataset.splits().items()},
        },
        versions=environment(),
    )
    return manifest


def completed(spec: dict[str, Any]) -> dict[str, Any]:
    """A recorded spec with today's defaults for settings that an earlier version did not have."""
    try:
        return parse_spec(spec).model_dump(mode="json")
    except ConfigError:  # a setting that is no more: the differences will show it
        return spec


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
