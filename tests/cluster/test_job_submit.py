"""``ray job submit`` to a cluster that asks for a token, as docs/cluster.md says.

One node: Ray removes a job's working directory when a second one of the same host needs none.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import free_port
from tiny_sweep import write_sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

RAY = str(Path(sys.executable).with_name("ray"))


class TokenCluster:
    """A head with two CPUs, its jobs server on the loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "auth_token").write_text(secrets.token_hex(32))
        self.open = {
            **os.environ,
            "RAY_USAGE_STATS_ENABLED": "0",
            "ENSGAN_STORAGE": str(folder / "runs"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
            self.open.pop(name, None)
        self.closed = {
            **self.open,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "auth_token"),
        }
        self.address = f"{socket.gethostbyname(socket.gethostname())}:{free_port()}"
        self.jobs = f"http://127.0.0.1:{free_port()}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> None:
        """``ray start``, in the foreground of a group of its own."""
        with (self.folder / "ray.log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [RAY, "start", *words, "--block"],
                    env=self.closed,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def job(self, *words: str, token: bool = True) -> subprocess.CompletedProcess[str]:
        """``ray job WORDS``."""
        command = [RAY, "job", words[0], "--address", self.jobs, *words[1:]]
        return subprocess.run(
            command,
            env=self.closed if token else self.open,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def listed(self, what: str, key: str) -> set[str]:
        """Values of a column of ``ray list``."""
        command = [RAY, "list", what, "--address", self.jobs, "--format", "json", "--limit", "999"]
        done = subprocess.run(command, env=self.closed, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return {each[key] for each in json.loads(done.stdout)}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[TokenCluster]:
    made = TokenCluster(tmp_path)
    ip, port = made.address.split(":")
    with tempfile.TemporaryDirectory(prefix="ray-") as short:  # paths of sockets are short
        where = ["--node-ip-address", ip, "--port", port, "--temp-dir", short]
        dashboard = ["--dashboard-host=127.0.0.1", f"--dashboard-port={made.jobs.rsplit(':')[-1]}"]
        made.start("--head", "--num-cpus=2", *where, *dashboard)
        try:
            deadline = time.monotonic() + 240
            while made.job("list").returncode != 0:
                assert time.monotonic() < deadline, (tmp_path / "ray.log").read_text()
                time.sleep(2)
            yield made
        finally:
            for process in reversed(made.processes):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)


def test_a_submitted_sweep_resumes_under_another_submission(cluster: TokenCluster) -> None:
    folder = cluster.folder / "sweeps"
    folder.mkdir()
    evaluate = {"strategies": ["real", "selected"], "repeats": 1}
    write_sweep(folder, train={"gans": ["SNGAN"]}, evaluate=evaluate)
    sweep = ["--working-dir", str(folder), "--", "ensgan", "sweep", "tiny.yaml"]
    sweep += ["--address", "auto", "--json"]
    refused = cluster.job("submit", *sweep, token=False)
    assert refused.returncode != 0 and not (cluster.folder / "runs").exists()
    for _ in range(60):
        first = cluster.job("submit", "--submission-id", "tiny-1", *sweep)
        if "No available agent" not in first.stderr:
            break
        time.sleep(2)  # the jobs server answers before the node can run a job
    assert first.returncode == 0, first.stdout + first.stderr
    events = [json.loads(line) for line in first.stdout.splitlines() if line.startswith('{"event')]
    assert events[-1]["event"] == "done" and events[-1]["members"] == 2 and events[-1]["run_id"]
    # Ray's lists, and so its dashboard, say which sweep, stage and GAN.
    assert "tiny: train SNGAN" in cluster.listed("actors", "class_name")
    tasks = cluster.listed("tasks", "name")
    assert {"tiny: train SNGAN.train", "tiny: evaluate selected, repeat 0"} <= tasks, tasks
    assert cluster.job("submit", "--submission-id", "tiny-1", *sweep).returncode != 0
    again = cluster.job("submit", "--submission-id", "tiny-2", *sweep)
    done = json.loads([line for line in again.stdout.splitlines() if '"event": "done"' in line][-1])
    assert done["run_id"] == events[-1]["run_id"], "found, not made again"
