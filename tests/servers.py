"""Servers that tests start on a loopback port, and stop with all their children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

MLFLOW_SETTINGS = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


RAYS_OWN = {44217, 44227, 52365}
"""Ports that every head of Ray takes for its metrics and agent; the system may give them out."""


def free_port() -> int:
    """A port that nobody listens on and that Ray does not want for itself."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in RAYS_OWN:
            return port


@contextmanager
def serving(
    command: Sequence[object], address: str, folder: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers at ``address`` when the block begins.

    Args:
        folder: where it runs; its output goes to ``server.log`` there.
    """
    log = folder / "server.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, **environment},
            stdout=stream,
            stderr=stream,
            cwd=folder,
            start_new_session=True,
        )
    try:
        for _ in range(480):
            try:
                urlopen(address, timeout=5)
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
