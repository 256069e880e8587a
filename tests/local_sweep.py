"""Sweeps without Ray whose runs are recorded in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_store import MemoryStore
from tiny_sweep import tiny

from ensgan.config import SweepSpec, parse_spec
from ensgan.errors import StoreError
from ensgan.launch import sweep as launch
from ensgan.sweep.events import Event, SweepResult


class SometimesAway(MemoryStore):
    """A store in memory that cannot be reached while ``reachable`` is false."""

    reachable = True

    def prepare(self) -> None:
        if not self.reachable:
            raise StoreError("no tracking server at http://127.0.0.1:1")
        super().prepare()


class Home:
    """A storage folder with its own tracking store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = SometimesAway()
        self.events: list[Event] = []

    def open_store(self, *_: object, **__: object) -> MemoryStore:
        return self.store

    def run(self, spec: SweepSpec | Path | None = None, **arguments: object) -> SweepResult:
        """Run the tiny sweep, or another."""
        self.events.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launch, "open_store", self.open_store)
            return launch.run_sweep(
                spec or parse_spec(tiny()),
                storage=self.path,
                address=None,
                **{"on_event": self.events.append, **arguments},  # type: ignore[arg-type]
            )

    def sync(self, name: str) -> str:
        """Record a sweep later."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launch, "open_store", self.open_store)
            return launch.sync_sweep(name, storage=self.path)
