"""A shell for ``ensgan evaluate`` and ``ensgan study`` on a sweep that is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from made_sweep import make_sweep
from memory_store import MemoryStore

from ensgan.cli import main
from ensgan.downstream import run_repeats
from ensgan.errors import StoreError
from ensgan.launch import evaluate as proof
from ensgan.sweep import classifier_job as jobs

QUICK = ("--width", "4", "--epochs", "1", "--images-per-epoch", "32", "--batch", "16")


class Shell:
    """Runs the command in this process, on a sweep that is there."""

    def __init__(
        self,
        command: str,
        patch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        storage: Path,
    ) -> None:
        self.command = command
        self.patch, self.capsys, self.storage = patch, capsys, storage
        self.store = MemoryStore()
        self.reachable = True
        self.trained = 0
        self.run_id = make_sweep(storage, self.store)
        patch.setattr(proof, "open_store", self.open_store)
        patch.setattr(jobs.downstream, "run_repeats", self.run_repeats)

    def open_store(self, *_: object, **__: object) -> MemoryStore:
        if not self.reachable:
            raise StoreError("no tracking server")
        return self.store

    def run_repeats(self, repeats, **options):
        self.trained += len(repeats)
        return run_repeats(repeats, **options)

    def __call__(self, sweep: str, *words: str) -> tuple[int, str, str]:
        line = ["ensgan", self.command, sweep, *QUICK, *words, "--address", "none"]
        self.patch.setattr(sys, "argv", [*line, "--storage", str(self.storage)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        shown = self.capsys.readouterr()
        return code, shown.out, shown.err

    def json(self, sweep: str, *words: str) -> dict:
        code, out, error = self(sweep, *words, "--json")
        assert code == 0, error
        return json.loads(out)

    def refused(self, sweep: str, *words: str) -> str:
        before = self.trained
        code, _, error = self(sweep, *words)
        assert code == 2, error
        assert "error" in error.lower() and "Traceback" not in error
        assert self.trained == before, "refused only after training"
        return error
