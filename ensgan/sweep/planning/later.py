"""What the stages after training will take, by what they took before on this storage.

Without torch: ``ensgan status`` asks it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensgan.config import SweepSpec
from ensgan.errors import DataError, StoreError
from ensgan.files import read_json, write_json

KEY = "seconds of stages"
"""In the file of what trainings took (``measured.json``), whose other keys are hashes."""
STAGES = ("score", "search", "select", "evaluate")


def stage_work(settings: SweepSpec, members: int, images: int) -> dict[str, float]:
    """How much each stage has to do, in a unit of its own.

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


def learn(file: Path, seconds: Mapping[str, float], work: Mapping[str, float]) -> None:
    """Remember what whole stages took; a full disk is no reason to fail."""
    known = _read(file)
    rates = {
        stage: seconds[stage] / work[stage] for stage in STAGES if work[stage] and stage in seconds
    }
    with contextlib.suppress(StoreError):
        write_json(file, {**known, KEY: rates})


def seconds_after(file: Path, stage: str, work: Mapping[str, float]) -> float | None:
    """Seconds of the stages after ``stage``; None where one of them never ran on this storage."""
    rates = _read(file).get(KEY, {})
    left = STAGES[STAGES.index(stage) + 1 :] if stage in STAGES else STAGES
    try:
        return sum(float(rates[each]) * work[each] for each in left if work[each])
    except (KeyError, TypeError, ValueError):
        return None


def _read(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
    except DataError:
        return {}
    return found if isinstance(found, dict) else {}
