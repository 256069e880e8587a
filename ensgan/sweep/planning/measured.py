"""What trainings and later stages have taken on a storage, remembered for estimates.

Without torch: ``ensgan status`` asks it.
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
"""In the file, whose other keys are hashes of trainings."""
_LARGEST = 1e15  # more bytes or seconds nobody has measured
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
        """That of the storage in which the folder of a sweep lies."""
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
        """What a training of this row took there; None where none was measured."""
        entry = self._entries().get(_key(row, settings, shape, classes), {})
        # Memory is known of trainings on GPUs alone.
        return entry.get("seconds_per_step") if bool(entry.get("memory_bytes")) == on_gpu else None

    def learn(
        self,
        figures: Iterable[tuple[MemberJob, Mapping[str, float | None]]],
        shape: ImageShape,
    ) -> None:
        """Remember figures of trainings; a full disk is no reason to fail."""
        entries, before = self._entries(), self._entries()
        for job, values in figures:
            kept = {name: value for name, value in values.items() if value}
            if kept:
                key = _key(job.row, job.settings, shape, job.classes)
                entries[key] = {**entries.get(key, {}), "gan": row_of(job.name), **kept}
        if entries != before:
            self._write(entries)

    def learn_stages(self, seconds: Mapping[str, float], work: Mapping[str, float]) -> None:
        """Remember what whole stages took; a full disk is no reason to fail."""
        rates = {
            stage: seconds[stage] / work[stage]
            for stage in STAGES
            if work[stage] and stage in seconds
        }
        self._write({**self._entries(), KEY: rates})

    def seconds_after(self, stage: str, work: Mapping[str, float]) -> float | None:
        """Seconds of the stages after ``stage``; None where one never ran on this storage."""
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
    """Whether an entry is of figures: the storage may be anybody's."""
    return isinstance(entry, dict) and all(
        type(value) in (int, float) and 0 <= value < _LARGEST if name != "gan" else value
        for name, value in entry.items()
    )


def _key(row: Mapping[str, Any], settings: TrainSettings, shape: ImageShape, classes: int) -> str:
    row = {**row, "name": row_of(row["name"])}  # a GAN takes as long with another seed
    return content_key(row, settings.batch, settings.d_updates, settings.precision, shape, classes)


def stage_work(settings: SweepSpec, members: int, images: int) -> dict[str, float]:
    """How much each stage after training has to do, in a unit of its own.

    Args:
        settings: of the sweep.
        members: of the pool.
        images: of the training split.
    """
    asked = settings.evaluate
    classifiers = asked.repeats * len(asked.strategies)
    epoch = (asked.images_per_epoch or images) * asked.width**2
    return {
        "score": members * (members + 1) / 2 * (settings.sample.count or images) ** 2,
        "search": float(settings.search.trials),
        "select": float(members),
        "evaluate": float(classifiers * asked.epochs * epoch),
    }
