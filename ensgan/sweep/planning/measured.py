"""What was measured: losses and pace of a training, and how long stages took, for estimates.

Imports no torch, because ``ensgan status``, ``ui`` and ``report`` read it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensgan.config import SweepSpec
from ensgan.errors import DataError, StoreError
from ensgan.files import MISFITS, content_key, read_json, write_json
from ensgan.types import row_of

if TYPE_CHECKING:
    from ensgan.sweep.member_job import MemberJob
    from ensgan.train import TrainSettings
    from ensgan.types import ImageShape

KEY = "seconds of stages"
"""Key of the stages in the file; its other keys are hashes of trainings."""
_LARGEST = 1e15  # bytes or seconds; a larger figure cannot have been measured
STAGES = ("score", "search", "select", "evaluate")
MOST_POINTS = 200
"""Of a history; when there are more, every second one is dropped."""
WRITE_SECONDS = 10.0
"""Seconds between two writes of the history."""


@dataclass(frozen=True)
class Measured:
    """What was measured, by row and data shape, and by stage.

    Attributes:
        path: a JSON file; a missing or unreadable one knows nothing.
    """

    path: Path

    @classmethod
    def beside(cls, sweep: Path) -> Measured:
        """The file of the storage that holds a sweep's folder."""
        return cls(sweep.parents[1] / "measured.json")

    def look_up(
        self,
        trainings: Iterable[tuple[Mapping[str, Any], TrainSettings]],
        shape: ImageShape,
        classes: int,
    ) -> list[Mapping[str, Any]]:
        """Of each row, trained so, ``seconds_per_step`` and (on a GPU) ``memory_bytes``, if known.

        Args:
            trainings: rows as JSON and their settings.
        """
        entries = self._entries()
        return [entries.get(_key(*each, shape, classes), {}) for each in trainings]

    def learn(
        self,
        figures: Iterable[tuple[MemberJob, Mapping[str, float | None]]],
        shape: ImageShape,
    ) -> None:
        """Keep figures of trainings. A full disk is ignored: estimates are only a help."""
        entries, before = self._entries(), self._entries()
        for job, values in figures:
            kept = {name: value for name, value in values.items() if value}
            if kept:
                key = _key(job.row, job.settings, shape, job.classes)
                entries[key] = {**entries.get(key, {}), "gan": row_of(job.name), **kept}
        if entries != before:
            self._write(entries)

    def learn_stages(self, seconds: Mapping[str, float], work: Mapping[str, float]) -> None:
        """Keep what whole stages took per unit of :func:`stage_work`; a full disk is ignored."""
        rates = {
            stage: seconds[stage] / work[stage]
            for stage in STAGES
            if work[stage] and stage in seconds
        }
        self._write({**self._entries(), KEY: rates})

    def seconds_after(self, stage: str, work: Mapping[str, float]) -> float | None:
        """Estimated seconds of the stages after ``stage``; None if one never ran here."""
        rates = self._entries().get(KEY, {})
        left = STAGES[STAGES.index(stage) + 1 :] if stage in STAGES else STAGES
        try:
            return sum(float(rates[each]) * work[each] for each in left if work[each])
        except (KeyError, TypeError, ValueError):
            return None

    def _entries(self) -> dict[str, Any]:
        try:
            entries = read_json(self.path)
        except DataError:
            return {}
        if not isinstance(entries, dict):
            return {}
        return {key: entry for key, entry in entries.items() if _is_sound(entry)}

    def _write(self, entries: Mapping[str, Any]) -> None:
        with contextlib.suppress(StoreError):
            write_json(self.path, entries)


def _is_sound(entry: Any) -> bool:
    """Whether an entry holds plausible figures; others may write to a shared storage."""
    return isinstance(entry, dict) and all(
        type(value) in (int, float) and 0 <= value < _LARGEST if name != "gan" else value
        for name, value in entry.items()
    )


def _key(row: Mapping[str, Any], settings: TrainSettings, shape: ImageShape, classes: int) -> str:
    # Variations keep their row's name: another seed or learning rate takes as long.
    row = {**row, "name": row_of(row["name"])}
    return content_key(row, settings.batch, settings.d_updates, settings.precision, shape, classes)


def stage_work(settings: SweepSpec, members: int, images: int) -> dict[str, float]:
    """How much work each stage after training has, each in a unit of its own.

    Args:
        settings: of the sweep.
        members: of the pool.
        images: of the training split.
    """
    # Only ratios to earlier sweeps matter, so each unit is the factor that dominates its stage.
    asked = settings.evaluate
    classifiers = asked.repeats * len(asked.strategies)
    epoch = (asked.images_per_epoch or images) * asked.width**2
    return {
        "score": members * (members + 1) / 2 * (settings.sample.count or images) ** 2,
        "search": float(settings.search.trials),
        "select": float(members),
        "evaluate": float(classifiers * asked.epochs * epoch),
    }


def history_path(folder: Path) -> Path:
    """Losses and pace of the training in ``folder``, at most 200 points."""
    return folder / "history.json"


class History:
    """Losses and pace of a training, thinned so that any length of it has at most 200 points."""

    def __init__(self, folder: Path) -> None:
        self.path = history_path(folder)
        self.points: list[tuple[int, dict[str, float]]] = []
        self._every, self._seen, self._written = 1, 0, time.monotonic()

    @staticmethod
    def load(folder: Path) -> list[tuple[int, dict[str, float]]]:
        """(step, values by name) in step order; empty if there is no readable file."""
        try:
            points = read_json(history_path(folder))["points"]
            return [(int(step), {k: float(v) for k, v in row.items()}) for step, row in points]
        except (DataError, *MISFITS):
            return []

    def resume(self, step: int) -> None:
        """Keep what an earlier process wrote up to a step."""
        # Steps after the checkpoint are trained again, and written again.
        self.points = [point for point in self.load(self.path.parent) if point[0] < step]

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take in the values of a step; most are dropped once there are many."""
        self._seen += 1
        if self._seen % self._every == 0:
            self.points.append((step, dict(values)))
        if len(self.points) > MOST_POINTS:
            # Halved, and from now on every other one is kept: the spacing stays even.
            self.points, self._every = self.points[::2], self._every * 2
        if time.monotonic() - self._written > WRITE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write the file; a failure is ignored, since no training depends on it."""
        self._written = time.monotonic()
        with contextlib.suppress(StoreError, ValueError):
            write_json(self.path, {"points": self.points})
