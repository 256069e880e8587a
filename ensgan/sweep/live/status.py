"""The status of a sweep, read from its folder by any process that can see it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ensgan.errors import DataError, StoreError
from ensgan.files import read_json, write_json
from ensgan.sweep.events import Event, OnEvent
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.manifest import Manifest
from ensgan.sweep.planning.measured import Measured, stage_work
from ensgan.sweep.records import Record, record_from, record_if_whole
from ensgan.types import gan_of, step_of

FROM_BEAT = ("node", "gpus", "gpu_memory_bytes", "precision")
INTERRUPTED = "interrupted"
"""State of an unfinished sweep that no process runs."""
WRITE_SECONDS = 1.0
QUIET_SECONDS = 3.0
"""A trial that was told to end counts as ended after this long without a heartbeat."""
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
    precision: str | None = None


class Planned(Record):
    """A trial of this session: its share of a GPU (or CPUs) and its work against the others'."""

    share: float = Field(ge=0, le=1e6)
    effort: float = Field(ge=0, le=1e30)


class Progress(Record, extra="ignore"):
    """What the driver last wrote about itself.

    Attributes:
        stage, began: the stage and when it began; ``done`` of ``of`` if it counts something.
        waits: what it waits for.
        slots: trials that run at once; ``gpus``: whether they have GPUs.
        trials: those of this session, by GAN.
        held: GANs that are paused or stopped; ``is_paused``: whether all are.
        host: where the driver runs.
    """

    stage: str = ""
    began: float = 0.0
    done: int | None = None
    of: int | None = None
    waits: str = ""
    slots: int = Field(1, ge=1)
    gpus: bool = False
    trials: dict[str, Planned] = Field(default_factory=dict)
    held: dict[str, str] = Field(default_factory=dict)
    is_paused: bool = False
    host: str = ""


class ProgressFile:
    """Listens to a sweep and keeps ``progress.json`` of its folder, at most once a second.

    Args:
        folder: of the sweep.
        on_event: called with every event afterwards.
        is_active: whether the file may be written.
    """

    def __init__(
        self, folder: SweepFolder, on_event: OnEvent, is_active: Callable[[], bool]
    ) -> None:
        self.path, self._on_event, self._is_active = folder.progress_path, on_event, is_active
        self.value = Progress(host=socket.gethostname())
        self._written = 0.0

    def __call__(self, event: Event) -> None:
        """Take in an event and pass it on."""
        fields, news = event.fields, {}
        if event.kind == "stage" and fields["state"] == "start":
            news = {"stage": fields["stage"], "began": time.time(), "done": None, "of": None}
            news["waits"] = ""
        elif event.kind == "waits":
            news = {"waits": fields["for"]}
        elif event.kind == "progress" and "stage" in fields:
            news = {"done": fields["done"], "of": fields["of"]}
        elif event.kind == "held":
            news = {"held": fields["gans"], "is_paused": fields["all"]}
        elif event.kind == "plan":
            trials = {gan: Planned(**planned) for gan, planned in fields["trials"].items()}
            news = {"slots": fields["slots"], "gpus": fields["gpus"], "trials": trials}
        if news:
            self.value = self.value.model_copy(update=news)
            self._write(at_once=event.kind != "progress")
        self._on_event(event)

    def _write(self, *, at_once: bool) -> None:
        now = time.monotonic()
        if self._is_active() and (at_once or now - self._written > WRITE_SECONDS):
            self._written = now
            with contextlib.suppress(StoreError):  # a full disk: the sweep itself reports it
                write_json(self.path, self.value.tree())


def sweep_status(folder: SweepFolder, now: float | None = None) -> dict[str, Any]:
    """The state of a sweep as JSON-able values.

    Returns:
        ``sweep``, ``state`` (running, paused, interrupted, finished, failed), ``run_id``,
        ``members``, ``planned``, ``seconds`` since it began, ``stage`` with ``done`` of ``of``
        while it runs, what it ``waits`` for, ``eta_seconds`` of it, ``eta_total_seconds`` of all
        (None where a later stage never ran on this storage), ``hours`` that trials have taken and
        ``hours_left``, of ``hours_of`` (GPU, CPU), ``host`` of the driver, ``failed`` (GAN →
        reason), ``losses`` (GAN → node and process losses), ``stages``, ``notes`` (files that
        cannot be read) and one row per GAN: ``gan``, ``state`` (waiting, running, silent, paused,
        stopped, done, failed), ``member`` (the last one finished), ``step``, ``steps``,
        ``steps_per_second``, ``eta_seconds``, ``node``, ``gpus``, ``gpu_memory_bytes``,
        ``intra_d``, ``label_consistency``, ``health``.

    Raises:
        DataError: the manifest is missing, damaged or foreign.
    """
    now = time.time() if now is None else now
    manifest = folder.read()
    is_held = folder.is_locked()
    state = state_of(manifest, is_held=is_held)
    notes: list[str] = []
    beats = _heartbeats(folder, notes)
    driver = record_if_whole(Progress, folder.progress_path) if state == "running" else None
    driver = driver or Progress()  # not written yet, or not readable
    rows = [
        _row(gan, manifest, planned, beats.get(gan), driver, now if is_held else None)
        for gan, planned in sorted(
            Counter(map(gan_of, manifest.planned_names)).items(),
            key=lambda item: item[0] in manifest.gans,  # what was trained elsewhere first
        )
    ]
    left, hours_left = _left(rows, driver, now)
    work = stage_work(manifest.settings, manifest.planned, manifest.dataset.images.get("train", 0))
    later = Measured.beside(folder.path).seconds_after(driver.stage, work)
    return {
        "sweep": folder.path.name,
        "state": "paused" if driver.is_paused else state,
        "run_id": folder.run_id(),
        "members": len(manifest.members),
        "planned": manifest.planned,
        "seconds": round((manifest.finished or now) - manifest.started, 1),
        "stage": driver.stage,
        "done": driver.done,
        "of": driver.of,
        "waits": driver.waits,
        "eta_seconds": left,
        "eta_total_seconds": None if left is None or later is None else left + later,
        "hours": _hours(folder, manifest),
        "hours_left": hours_left,
        "hours_of": "GPU" if driver.gpus or any(row["gpus"] for row in rows) else "CPU",
        "host": driver.host,
        "failed": dict(manifest.failed),
        "losses": {gan: losses.tree() for gan, losses in manifest.losses.items()},
        "stages": dict(manifest.stages),
        "notes": notes,
        "gans": rows,
    }


def _left(
    rows: Sequence[Mapping[str, Any]], driver: Progress, now: float
) -> tuple[float | None, float | None]:
    """Seconds and trial hours that the stage still takes; None if unknown.

    Waiting trainings are estimated from running ones by the ratio of their efforts.
    """
    if driver.stage != "train":
        done, of = driver.done or 0, driver.of or 0
        return ((now - driver.began) * (of - done) / done if done else None), None
    trials = driver.trials
    known = [row for row in rows if row["gan"] in trials and row["steps_per_second"]]
    # Efforts are estimates of work; the pace of running trials turns them into seconds.
    efforts = sum(trials[row["gan"]].effort for row in known)
    if not efforts:
        return None, None
    per_effort = sum(row["steps"] / row["steps_per_second"] for row in known) / efforts
    seconds_of = {
        row["gan"]: trials[row["gan"]].effort * per_effort * (1 - row["step"] / row["steps"])
        if row["eta_seconds"] is None
        else row["eta_seconds"]
        for row in rows
        if row["gan"] in trials and row["state"] in ("waiting", "running", "silent", "paused")
    }
    hours = sum(seconds * trials[gan].share for gan, seconds in seconds_of.items()) / 3600
    # Shared by all slots, and no sooner than the longest training alone.
    return max([sum(seconds_of.values()) / driver.slots, *seconds_of.values()], default=0.0), hours


def _hours(folder: SweepFolder, manifest: Manifest) -> float:
    """Hours that trials have taken: as counted by the driver, else from their members."""
    with contextlib.suppress(DataError, KeyError, TypeError, ValueError):
        return float(read_json(folder.path / "hours.json")["hours"])
    work = [part for member in manifest.members.values() for part in member.work]
    return sum(end - begin for begin, end in work) / 3600


def state_of(manifest: Manifest, *, is_held: bool) -> str:
    """The sweep's status; ``interrupted`` if it says running and no process holds the folder."""
    return manifest.status if manifest.status != "running" or is_held else INTERRUPTED


def interrupted_runs(storage: Path) -> set[str]:
    """IDs of the runs of interrupted sweeps, which their store still shows as running."""
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
    gan: str,
    manifest: Manifest,
    planned: int,
    beat: Heartbeat | None,
    driver: Progress,
    now: float | None,
) -> dict[str, Any]:
    """One GAN and its planned members; ``now`` is None when no driver runs."""
    members = [member for name, member in manifest.members.items() if gan_of(name) == gan]
    last = members[-1] if members else None
    step = max(step_of(last.name) if last else 0, beat.step if beat else 0)
    steps = manifest.steps.get(gan) or (beat.steps if beat else 0)
    held = "paused" if driver.is_paused else driver.held.get(gan)
    if gan in manifest.failed:
        state = "failed"
    elif len(members) >= planned:
        state, step = "done", steps
    # A trial that was told to end sends heartbeats until its step is done: it still runs.
    elif held is not None and (beat is None or now is None or now - beat.time > QUIET_SECONDS):
        state = held
    elif beat is None or now is None or (driver.stage == "train" and beat.time < driver.began):
        state = "waiting"  # its last sign of life, if any, is of an earlier session
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
        **{name: getattr(beat, name, None) for name in FROM_BEAT},
        "intra_d": last.intra_d if last else None,
        "label_consistency": manifest.label_shares.get(last.name) if last else None,
        "health": list(last.health) if last else [],
    }


def _heartbeats(folder: SweepFolder, notes: list[str]) -> dict[str, Heartbeat]:
    """The newest heartbeat of every GAN; problems of unreadable ones are added to ``notes``."""
    # A GAN has several folders where it was trained with several settings.
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
