"""Sweeps without Ray whose runs are recorded in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_sweep import tiny

from ensgan.config import SweepSpec, parse_spec
from ensgan.errors import StoreError
from ensgan.launch import sweep as launch
from ensgan.store import MemoryStore
from ensgan.sweep.events import Event
from ensgan.sweep.result import SweepResult


class Home:
    """A storage folder with its own tracking store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = MemoryStore()
        self.events: list[Event] = []
        self.reachable = True

    def open_store(self, *_: object, **__: object) -> MemoryStore:
        if not self.reachable:
            raise StoreError("no tracking server at http://127.0.0.1:1")
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
                on_event=self.events.append,
                **arguments,  # type: ignore[arg-type]
            )

    def sync(self, name: str) -> str:
        """Record a sweep later."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launch, "open_store", self.open_store)
            return launch.sync_sweep(name, storage=self.path)
