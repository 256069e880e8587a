"""A server of pages on this machine: started, waited for, and ended with whoever started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ensgan.errors import StoreError, last_line

PATIENCE_SECONDS = 180.0
"""A busy machine may need a minute to import MLflow."""


def serve(command: Sequence[str], port: int, on_start: Callable[[str], object]) -> int:
    """Run a server on 127.0.0.1 until ctrl-C or SIGTERM, which end it too; its exit code.

    Args:
        on_start: called with its address, once it takes connections.

    Raises:
        StoreError: it ends before it answers, with the last line that it wrote.
    """
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment["PYTHONSAFEPATH"] = "1"  # import nothing from the current folder
    with (
        tempfile.TemporaryFile() as log,
        _terminations(),
        subprocess.Popen(
            command, env=environment, cwd=Path.cwd(), stdout=log, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            if not _answers(server, port):
                server.terminate()
                log.seek(0)
                said = last_line(log.read().decode(errors="replace"))
                raise StoreError(f"the server of the pages did not start: {said}")
            on_start(f"http://127.0.0.1:{port}")
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            server.wait()
            return 0


@contextmanager
def _terminations() -> Iterator[None]:
    """SIGTERM is what ctrl-C is; only the main thread may say so."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server takes connections; whether it does."""
    end = time.monotonic() + PATIENCE_SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return True
    return False
