"""MLflow's own pages, for this machine only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ensgan.errors import InputError
from ensgan.store.environment import settle_environment
from ensgan.store.remote import PAGES
from ensgan.store.tracking import MLflowStore


def server_command(store: MLflowStore, port: int) -> list[str]:
    """The command of an MLflow server on 127.0.0.1 that answers to no other name."""
    hosts = ",".join(f"{name}:{port}" for name in ("localhost", "127.0.0.1"))
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", store.uri),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--allowed-hosts", hosts),
        *("--cors-allowed-origins", ",".join(f"http://{host}" for host in hosts.split(","))),
        *("--workers", "1"),
    ]
    if store.artifact_root is not None:
        command += ["--default-artifact-root", store.artifact_root.resolve().as_uri()]
    return command


def pages_address(port: int) -> str:
    """Where the server shows the experiments."""
    return f"http://127.0.0.1:{port}/#/experiments?{PAGES}"


def serve_pages(store: MLflowStore, port: int) -> int:
    """Run the server until it is interrupted and return its exit code.

    Raises:
        InputError: there is nothing to show, because no sweep has been recorded there.
    """
    if store.is_empty():
        raise InputError(
            f"there is nothing to show in {store.uri}: run a sweep first, or name another --storage"
        )
    settle_environment()
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(server_command(store, port), env=environment, cwd=Path.cwd()) as server:
        try:
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            server.wait()
            return 0
