"""Losses and pace of a training, step by step, in few enough points for any page."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

from ensgan.errors import DataError, StoreError
from ensgan.files import MISFITS, read_json, write_json

MOST_POINTS = 200
"""Of a history; when there are more, every second one is dropped."""
WRITE_SECONDS = 10.0
"""Seconds between two writes of the history."""


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
