"""What runs on the head of a cluster for a sweep that was started from outside of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ray

STOP_SECONDS = 60.0
_OF_THE_WORKER = ("RAY_JOB_ID", "RAY_RAYLET_PID", "RAY_CLIENT_MODE", "RAY_LD_PRELOAD_ON_WORKERS")


@dataclass(frozen=True)
class RemoteSweep:
    """What the head is asked to run.

    Attributes:
        name: of the sweep.
        files: the sweep file, first, and the code it names, by their relative paths.
        options: further arguments of ``ensgan sweep``; their paths are the cluster's.
        has_storage: they say where the sweep is kept.
    """

    name: str
    files: Mapping[str, bytes]
    options: tuple[str, ...]
    has_storage: bool


class HeadDriver:
    """Runs ``ensgan sweep`` on the head and keeps what it prints (an actor).

    Of the progress of each GAN only the last line is kept: memory stays small in long sweeps.
    """

    def __init__(self) -> None:
        self.sweep: RemoteSweep | None = None
        self.process: subprocess.Popen[str] | None = None
        self.lock = threading.Lock()
        self.folder = tempfile.TemporaryDirectory(prefix="ensgan-sweep-")
        self.lines: dict[int, str] = {}
        self.said: deque[str] = deque(maxlen=50)
        self.readers: list[threading.Thread] = []

    def start(self, sweep: RemoteSweep) -> str | None:
        """Start the command; an equal one that runs, or that nobody saw the end of, is kept.

        Returns:
            Why not, if it cannot be started.
        """
        with self.lock:
            if sweep == self.sweep and not (self._ended() and "--fresh" in sweep.options):
                return None
            if self.process is not None and not self._ended():
                return (
                    f"sweep '{sweep.name}' runs on that cluster with another file or other "
                    "options: interrupt it where it was started, or wait for its end"
                )
            if not sweep.has_storage and not os.environ.get("ENSGAN_STORAGE"):
                return (
                    "the head does not know where to keep the sweep: give --storage, a folder "
                    "that all nodes of the cluster share"
                )
            self.sweep, self.lines, self.readers = sweep, {}, []
            self.said.clear()
            self._launch(sweep)
        return None

    def is_idle(self) -> bool:
        """It was never given anything to run."""
        return self.sweep is None

    def _launch(self, sweep: RemoteSweep) -> None:
        folder = Path(self.folder.name)
        for name, content in sweep.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        cluster = str(ray.get_runtime_context().gcs_address)
        command = [sys.executable, "-m", "ensgan", "sweep", next(iter(sweep.files))]
        self.process = subprocess.Popen(
            [*command, "--address", cluster, "--json", *sweep.options],
            cwd=folder,
            env=_driver_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for target in (self._read_events, self._read_errors):
            self.readers.append(threading.Thread(target=target, daemon=True))
            self.readers[-1].start()

    def _read_events(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        progress: dict[str, int] = {}
        for number, line in enumerate(self.process.stdout):
            fields = json.loads(line)
            with self.lock:
                self.lines[number] = line
                if fields["event"] == "progress":
                    about = str(fields.get("gan") or fields.get("stage"))
                    self.lines.pop(progress.get(about, -1), None)
                    progress[about] = number

    def _read_errors(self) -> None:
        assert self.process is not None and self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))

    def news(self, seen: int) -> tuple[list[tuple[int, str]], int | None, list[str]]:
        """Events after number ``seen``; the exit code once all of them are told; stderr."""
        code = None
        if self.process is not None and self._ended():
            for reader in self.readers:  # what it printed last
                reader.join(timeout=STOP_SECONDS)
            code = self.process.returncode
        with self.lock:
            events = [(number, line) for number, line in self.lines.items() if number > seen]
        return events, code, list(self.said)

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        """Interrupt the command as a person would; end it if that does not help."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.close()

    def close(self) -> None:
        """Remove the files that were sent."""
        self.folder.cleanup()


def _driver_environment() -> dict[str, str]:
    """The node's environment, without what Ray set for the actor's own process."""
    environment = {name: text for name, text in os.environ.items() if name not in _OF_THE_WORKER}
    if environment.get("CUDA_VISIBLE_DEVICES") == "":
        del environment["CUDA_VISIBLE_DEVICES"]  # hidden from an actor that asked for no GPU
    return environment
