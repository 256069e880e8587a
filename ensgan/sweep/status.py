"""The status of a sweep, read from its folder by any process that can see it."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from ensgan.errors import DataError
from ensgan.files import read_json
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.manifest import Manifest
from ensgan.sweep.records import Record, record_from
from ensgan.types import gan_of, step_of

INTERRUPTED = "interrupted"
"""State of an unfinished sweep that no process runs."""
FRESH_SECONDS = 30.0
"""Seconds without a heartbeat after which a trial is not shown as running."""


class Heartbeat(Record, extra="ignore"):
    """The last heartbeat of a trial; fields of newer versions are ignored."""

    gan: str
    step: int
    steps: int
    time: float
    steps_per_second: float | None = None
    node: str | None = None
    gpus: float | None = None
    gpu_memory_bytes: int | None = None


def sweep_status(folder: SweepFolder, now: float | None = None) -> dict[str, Any]:
    """The state of a sweep as JSON-able values.

    Returns:
        ``sweep``, ``state`` (running, interrupted, finished, failed), ``run_id``, ``members``,
        ``planned``, ``seconds`` since it began, ``failed`` (GAN → reason), ``losses`` (GAN → node
        and process losses), ``stages``, ``notes`` (files that cannot be read) and one row per GAN:
        ``gan``, ``state`` (waiting, running, silent, done, failed), ``member`` (the last one
        finished), ``step``, ``steps``, ``steps_per_second``, ``eta_seconds``, ``node``, ``gpus``,
        ``gpu_memory_bytes``, ``intra_d``, ``health``.

    Raises:
        DataError: the manifest is missing, damaged or foreign.
    """
    now = time.time() if now is None else now
    manifest = folder.read()
    running = folder.is_locked()
    notes: list[str] = []
    beats = _heartbeats(folder, notes)
    return {
        "sweep": folder.path.name,
        "state": state_of(manifest, is_held=running),
        "run_id": folder.run_id(),
        "members": len(manifest.members),
        "planned": manifest.planned,
        "seconds": round((manifest.finished or now) - manifest.started, 1),
        "failed": dict(manifest.failed),
        "losses": {gan: losses.tree() for gan, losses in manifest.losses.items()},
        "stages": dict(manifest.stages),
        "notes": notes,
        "gans": [
            _row(gan, manifest, planned, beats.get(gan), now if running else None)
            for gan, planned in sorted(
                Counter(map(gan_of, manifest.planned_names)).items(),
                key=lambda item: item[0] in manifest.gans,
            )
        ],
    }


def state_of(manifest: Manifest, *, is_held: bool) -> str:
    """The sweep's status; ``interrupted`` where it says running and no process holds the folder."""
    return manifest.status if manifest.status != "running" or is_held else INTERRUPTED


def interrupted_runs(storage: Path) -> set[str]:
    """IDs of runs of the storage's sweeps that were interrupted: their store says running."""
    runs: set[str] = set()
    for path in (storage / "sweeps").glob("*/manifest.json"):
        folder = SweepFolder(path.parent)
        try:
            manifest = folder.read()
            if state_of(manifest, is_held=folder.is_locked()) == INTERRUPTED:
                runs.update(folder.recorded().runs.values())
        except DataError:  # `ensgan status` says what is wrong with it
            continue
    return runs - {""}


def _row(
    gan: str, manifest: Manifest, planned: int, beat: Heartbeat | None, now: float | None
) -> dict[str, Any]:
    """One GAN and its planned members; ``now`` is None when no driver runs."""
    members = [member for name, member in manifest.members.items() if gan_of(name) == gan]
    last = members[-1] if members else None
    step = max(step_of(last.name) if last else 0, beat.step if beat else 0)
    steps = beat.steps if beat else manifest.steps.get(gan, 0)
    if gan in manifest.failed:
        state = "failed"
    elif len(members) >= planned:
        state, step = "done", steps
    elif beat is None or now is None:
        state = "waiting"
    else:
        state = "running" if now - beat.time < FRESH_SECONDS else "silent"
    rate = beat.steps_per_second if beat else None
    return {
        "gan": gan,
        "state": state,
        "member": last.name if last else None,
        "step": step,
        "steps": steps,
        "steps_per_second": rate,
        "eta_seconds": (steps - step) / rate if rate and state == "running" else None,
        **{name: getattr(beat, name, None) for name in ("node", "gpus", "gpu_memory_bytes")},
        "intra_d": last.intra_d if last else None,
        "health": list(last.health) if last else [],
    }


def _heartbeats(folder: SweepFolder, notes: list[str]) -> dict[str, Heartbeat]:
    """The newest heartbeat of every GAN that has begun; what cannot be read goes to the notes."""
    newest: dict[str, Heartbeat] = {}
    for path in sorted((folder.path / "train").glob("*/heartbeat.json")):
        try:
            beat = record_from(Heartbeat, read_json(path), str(path), None)
        except DataError as error:
            notes.append(str(error))
            continue
        if beat.gan not in newest or newest[beat.gan].time < beat.time:
            newest[beat.gan] = beat
    return newest
