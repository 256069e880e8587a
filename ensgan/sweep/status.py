"""How far a sweep is, read from its folder by any process on any machine that sees it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensgan.errors import DataError, InputError, unknown_name
from ensgan.files import read_json
from ensgan.sweep.folder import SweepFolder
from ensgan.types import gan_of, step_of

FRESH_SECONDS = 30.0
"""A trial that has not been heard of for longer is not shown as running."""


def find_sweep(storage: Path, name: str) -> SweepFolder:
    """The folder of a sweep by its name, or by the ID of any run recorded for it.

    Raises:
        InputError: there is no such sweep or run here.
    """
    folders = [path for path in sorted((storage / "sweeps").glob("*")) if path.is_dir()]
    known = [path for path in folders if (path / "manifest.json").exists()]
    for path in known:
        if path.name == name:
            return SweepFolder(path)
    for path in known:
        try:
            runs = read_json(path / "recorded.json")["runs"]
        except (DataError, KeyError, TypeError):
            continue
        if name in runs.values():
            return SweepFolder(path)
    raise InputError(
        f"{storage}: {unknown_name('sweep or run', name, [path.name for path in known])}"
        if known
        else f"{storage} holds no sweep: choose another --storage"
    )


def sweep_status(folder: SweepFolder, now: float | None = None) -> dict[str, Any]:
    """The state of a sweep as JSON-able values.

    Returns:
        ``sweep``, ``state`` (running, interrupted, finished, failed), ``run_id``, ``members``,
        ``planned``, ``seconds`` since it began, ``failed`` (GAN → reason), ``losses`` (GAN → node
        and process losses), ``stages`` and one row a GAN: ``gan``, ``state`` (waiting, running,
        silent, done, failed), ``member`` (the last one finished), ``step``, ``steps``,
        ``steps_per_second``, ``eta_seconds``, ``node``, ``gpus``, ``gpu_memory_bytes``,
        ``intra_d``, ``health``.
    """
    now = time.time() if now is None else now
    manifest = folder.read()
    running = folder.is_locked()
    state = manifest.get("status", "interrupted")
    if state == "running" and not running:
        state = "interrupted"
    failed = manifest.get("failed", {})
    return {
        "sweep": folder.path.name,
        "state": state,
        "run_id": _run_id(folder),
        "members": len(manifest.get("members", {})),
        "planned": manifest.get("planned", 0),
        "seconds": round(manifest.get("finished", now) - manifest.get("started", now), 1),
        "failed": failed,
        "losses": manifest.get("losses", {}),
        "stages": manifest.get("stages", {}),
        "gans": [
            _row(folder, gan, manifest, failed, now if running else None)
            for gan in (*manifest.get("outside", []), *manifest.get("gans", []))
        ],
    }


def _run_id(folder: SweepFolder) -> str | None:
    try:
        return str(read_json(folder.path / "recorded.json")["runs"][folder.path.name])
    except (DataError, KeyError, TypeError):
        return None


def _row(
    folder: SweepFolder,
    gan: str,
    manifest: Mapping[str, Any],
    failed: Mapping[str, str],
    now: float | None,
) -> dict[str, Any]:
    """One GAN; ``now`` is None when no driver runs."""
    beat = _heartbeat(folder, gan)
    members = [m for name, m in manifest["members"].items() if gan_of(name) == gan]
    last: Mapping[str, Any] = members[-1] if members else {}
    outside = manifest.get("outside", ())
    step = max(step_of(last["name"]) if last else 0, int(beat.get("step", 0)))
    steps = int(beat.get("steps", manifest["steps"].get(gan, 0)))
    if gan in failed:
        state = "failed"
    elif len(members) >= (1 if gan in outside else manifest["spec"]["train"]["snapshots"]):
        state, step = "done", steps
    elif not beat or now is None:
        state = "waiting"
    else:
        state = "running" if now - beat["time"] < FRESH_SECONDS else "silent"
    rate = beat.get("steps_per_second")
    return {
        "gan": gan,
        "state": state,
        "member": last.get("name"),
        "step": step,
        "steps": steps,
        "steps_per_second": rate,
        "eta_seconds": (steps - step) / rate if rate and state == "running" else None,
        "node": beat.get("node"),
        "gpus": beat.get("gpus"),
        "gpu_memory_bytes": beat.get("gpu_memory_bytes"),
        "intra_d": last.get("intra_d"),
        "health": list(last.get("health", ())),
    }


def _heartbeat(folder: SweepFolder, gan: str) -> Mapping[str, Any]:
    """The newest heartbeat of a GAN, empty where it has not begun."""
    beats = []
    for path in (folder.path / "train").glob(f"{gan}-*/heartbeat.json"):
        try:
            beat = read_json(path)
        except DataError:
            continue
        if beat.get("gan") == gan:
            beats.append(beat)
    return max(beats, key=lambda beat: beat["time"], default={})
