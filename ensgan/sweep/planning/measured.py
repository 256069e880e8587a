"""How long trainings and later stages took on a storage, kept for estimates.

Imports no torch, because ``ensgan status`` reads it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensgan.config import SweepSpec
from ensgan.errors import DataError, StoreError
from ensgan.files import content_key, read_json, write_json
from ensgan.types import row_of

if TYPE_CHECKING:
    from ensgan.sweep.member_job import MemberJob
    from ensgan.train import TrainSettings
    from ensgan.types import ImageShape

KEY = "seconds of stages"
"""Key of the stages in the file; its other keys are hashes of trainings."""
_LARGEST = 1e15  # bytes or seconds; a larger figure cannot have been measured
STAGES = ("score", "search", "select", "evaluate")


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

    def look_up(self, jobs: Sequence[MemberJob], shape: ImageShape) -> list[Mapping[str, Any]]:
        """Of each job ``seconds_per_step`` and (on a GPU) ``memory_bytes``, or nothing."""
        entries = self._entries()
        if not entries:
            return [{}] * len(jobs)
        return [entries.get(_key(job.row, job.settings, shape, job.classes), {}) for job in jobs]

    def seconds_per_step(
        self,
        row: Mapping[str, Any],
        settings: TrainSettings,
        shape: ImageShape,
        classes: int,
        *,
        on_gpu: bool,
    ) -> float | None:
        """What a training of this row took on this storage; None if none was measured."""
        entry = self._entries().get(_key(row, settings, shape, classes), {})
        # Only trainings on GPUs record memory, which tells where this one was measured.
        return entry.get("seconds_per_step") if bool(entry.get("memory_bytes")) == on_gpu else None

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
