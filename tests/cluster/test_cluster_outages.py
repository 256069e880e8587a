"""What lies around a sweep fails for real: the tracking server is killed, the disk is full."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_disk import fill, small_disk
from tiny_sweep import tiny, write_sweep

from ensgan.config import parse_spec
from ensgan.launch import sweep as launch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TRAIN = {"steps": 200, "snapshots": 4, "resume_every": 5}
EVALUATE = {"strategies": ["real", "selected"], "repeats": 1}


class Server:
    """An MLflow server that can be killed and comes back with what it knew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **off}
            )
        wait_for(self.answers)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health") as reply:
            return bool(reply.status == 200)
        return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def runs(self) -> list[dict[str, Any]]:
        """Every run of the store."""
        body = json.dumps({"experiment_ids": ["1"], "max_results": 500}).encode()
        request = urllib.request.Request(
            f"{self.uri}/api/2.0/mlflow/runs/search",
            data=body,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return list(json.load(reply).get("runs", []))


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    made.kill()


def members_of(storage: Path) -> dict[str, Any]:
    path = storage / "sweeps" / "tiny" / "manifest.json"
    return dict(json.loads(path.read_text()).get("members", {})) if path.exists() else {}


def command(sweep: Path, storage: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "ensgan", "sweep", str(sweep), "--storage", str(storage)]
    return [*words, "--json", *more]


def names(runs: list[dict[str, Any]]) -> list[str]:
    return sorted(run["info"]["run_name"] for run in runs)


EVERY_RUN = sorted(["tiny", "SNGAN", "ACGAN-Mod", "search", "real", "selected"])


def test_a_killed_server_that_comes_back_has_every_run_once(tmp_path: Path, server: Server) -> None:
    sweep = write_sweep(tmp_path, train=TRAIN, evaluate=EVALUATE, track={"uri": server.uri})
    driver = subprocess.Popen(command(sweep, tmp_path), stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: driver.poll() is not None or len(members_of(tmp_path)) >= 1)
        assert driver.poll() is None
        server.kill()
        wait_for(lambda: driver.poll() is not None or len(members_of(tmp_path)) >= 4)
        assert driver.poll() is None, "the sweep had ended before the server came back"
        server.start()
        said, _ = driver.communicate(timeout=600)
    finally:
        driver.kill()
    done = json.loads(said.splitlines()[-1])
    assert driver.returncode == 0 and done["members"] == 8 and done["run_id"]
    runs = server.runs()
    assert names(runs) == EVERY_RUN
    assert all(run["info"]["status"] == "FINISHED" for run in runs)


def test_a_server_that_stays_away_delays_the_record_until_sync(
    tmp_path: Path, server: Server
) -> None:
    sweep = write_sweep(tmp_path, train=TRAIN, evaluate=EVALUATE, track={"uri": server.uri})
    driver = subprocess.Popen(command(sweep, tmp_path), stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: driver.poll() is not None or len(members_of(tmp_path)) >= 1)
        server.kill()
        said, _ = driver.communicate(timeout=800)
    finally:
        driver.kill()
    events = [json.loads(line) for line in said.splitlines()]
    assert driver.returncode == 0 and events[-1]["members"] == 8
    assert events[-1]["run_id"] is None
    warnings = [event["message"] for event in events if event["event"] == "warning"]
    assert any("`ensgan sync tiny` records it later" in message for message in warnings)
    server.start()
    sync = [sys.executable, "-m", "ensgan", "sync", "tiny", "--storage", str(tmp_path), "--json"]
    for _ in range(2):  # the second finds nothing to do
        synced = subprocess.run(sync, capture_output=True, text=True, timeout=300)
        assert synced.returncode == 0, synced.stderr
        assert names(server.runs()) == EVERY_RUN
    parent = json.loads(synced.stdout)["run_id"]
    tagged = {run["info"]["run_id"]: run["info"]["run_name"] for run in server.runs()}
    assert tagged[parent] == "tiny"


@pytest.mark.parametrize("address", ["local", "none"])
def test_a_full_disk_ends_the_sweep_with_one_sentence_and_loses_nothing(
    tmp_path: Path, address: str
) -> None:
    undisturbed = {}
    for gan in ("SNGAN", "ACGAN-Mod"):
        spec = parse_spec(tiny(train=TRAIN))
        for member in launch.train_one(spec, gan, storage=tmp_path / "undisturbed"):
            undisturbed[member.name] = member.sha256
    sweep = write_sweep(tmp_path, train=TRAIN, evaluate=EVALUATE)
    with small_disk(tmp_path / "disk", 200) as disk:
        run = command(sweep, disk, "--address", address)
        filler = threading.Thread(
            target=lambda: (wait_for(lambda: len(members_of(disk)) >= 1), fill(disk))
        )
        filler.start()
        full = subprocess.run(run, capture_output=True, text=True, timeout=400)
        filler.join()
        assert full.returncode == 1, full.stdout[-2000:] + full.stderr[-2000:]
        errors = [line for line in full.stderr.splitlines() if line.strip()]
        assert len(errors) == 1 and errors[0].startswith("error: "), full.stderr
        assert "make room, then run the same command again" in errors[0]
        assert '"failed"' not in full.stdout, "no GAN is to blame"
        before = members_of(disk)
        assert 1 <= len(before) < 8
        (disk / "ballast").unlink()
        again = subprocess.run(run, capture_output=True, text=True, timeout=400)
        assert again.returncode == 0, again.stderr
        after = members_of(disk)
        assert {name: member["sha256"] for name, member in after.items()} == undisturbed
        assert all(after[name]["weights"] == before[name]["weights"] for name in before)
        assert json.loads(again.stdout.splitlines()[-1])["run_id"]
