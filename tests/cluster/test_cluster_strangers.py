"""A real second node that does not share the storage and has another version is refused."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import free_port
from tiny_sweep import write_sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RAY = str(Path(sys.executable).with_name("ray"))
OPEN = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


def mounts_of_its_own() -> bool:
    """Whether a process here may hide a folder from itself alone."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    made = tmp_path / "store"
    made.mkdir()
    return made


@pytest.fixture
def address(tmp_path: Path, storage: Path) -> Iterator[str]:
    """A head, and a node on which the storage is another folder and numpy another version."""
    if not mounts_of_its_own():
        pytest.skip("needs the right to make a mount namespace (root)")
    metadata = tmp_path / "site/numpy-0.0.1.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n")
    port = free_port()
    start = [RAY, "start", "--block", "--num-cpus=1", "--object-store-memory=100000000"]
    head = [*start, "--head", f"--port={port}", "--include-dashboard=false"]
    hidden = f'mount -t tmpfs none "{storage}" && exec "$0" "$@"'
    node = ["unshare", "-m", "bash", "-c", hidden, *start, f"--address=127.0.0.1:{port}"]
    stranger = {**OPEN, "PYTHONPATH": f"{metadata.parents[1]}:{OPEN.get('PYTHONPATH', '')}"}
    processes: list[subprocess.Popen[bytes]] = []
    with (tmp_path / "ray.log").open("ab") as log:

        def begin(command: list[str], environment: dict[str, str]) -> None:
            processes.append(
                subprocess.Popen(
                    command, env=environment, stdout=log, stderr=log, start_new_session=True
                )
            )

        begin(head, OPEN)
        try:
            wait_for_nodes(port, 1)
            begin(node, stranger)
            wait_for_nodes(port, 2)
            yield f"127.0.0.1:{port}"
        finally:
            for process in reversed(processes):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)


def wait_for_nodes(port: int, count: int) -> None:
    command = [RAY, "status", f"--address=127.0.0.1:{port}"]
    deadline = time.monotonic() + 120
    while True:
        said = subprocess.run(command, env=OPEN, capture_output=True, text=True).stdout
        if said.count(" node_") >= count:
            return
        assert time.monotonic() < deadline, said
        time.sleep(1)


def test_a_node_with_another_disk_and_another_version(
    tmp_path: Path, storage: Path, address: str
) -> None:
    command = [sys.executable, "-m", "ensgan", "sweep", str(write_sweep(tmp_path))]
    command += ["--address", address, "--allow-open-cluster", "--storage", str(storage)]
    refused = subprocess.run(command, env=OPEN, capture_output=True, text=True)
    assert refused.returncode == 2, refused.stderr
    assert "cluster: 2 problems" in refused.stderr
    folder = storage / "sweeps/tiny"
    assert f"does not share {folder}" in refused.stderr
    assert "has numpy 0.0.1, the driver" in refused.stderr
    assert not list(folder.glob("train/*")), "nothing was trained"
