"""A sweep started from outside a real cluster, by ``ray://``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import tiny, write_sweep

from ensgan.cluster import client, launch
from ensgan.config import parse_spec
from ensgan.errors import EnsganError, InputError

EVALUATE = {"strategies": ["real", "selected"], "repeats": 1}


def test_relative_paths_are_refused_before_anything_is_contacted(tmp_path: Path) -> None:
    spec = parse_spec(tiny())
    own = parse_spec(tiny(dataset={"name": "my/xrays"}))
    with pytest.raises(InputError, match=r"--storage runs, dataset.name my/xrays: .*absolute"):
        launch.run_sweep(own, address="ray://192.0.2.1:10001", storage=Path("runs"))
    with pytest.raises(InputError, match=r"no Ray cluster at 'ray://127.0.0.1:1': nobody answers"):
        launch.run_sweep(spec, address="ray://127.0.0.1:1", storage=tmp_path)


def test_errors_of_the_cluster_are_told_as_they_were_raised() -> None:
    wrapped = RuntimeError("ray::_Driver.run()\n  bad name")
    wrapped.cause = InputError("bad name")  # type: ignore[attr-defined]
    assert client._own(wrapped) is wrapped.cause  # type: ignore[attr-defined]
    unknown = client._own(RuntimeError("ray::_Driver.run()\nKeyError: 'x'\n"))
    assert type(unknown) is EnsganError and "KeyError: 'x'" in str(unknown)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``ray start --head`` with a client server, in the foreground so that it ends with us."""
    port, client_port = free_port(), free_port()
    folder = tmp_path_factory.mktemp("ray")
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", "--block", "--num-cpus=2", "--include-dashboard=false"]
    command += [f"--port={port}", f"--ray-client-server-port={client_port}"]
    command += ["--node-ip-address=127.0.0.1", "--object-store-memory=100000000"]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    with (folder / "log").open("wb") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        yield f"ray://127.0.0.1:{client_port}"
    finally:
        head.terminate()
        head.wait(60)


def sweep(tmp_path: Path, address: str, **sections: Any) -> subprocess.CompletedProcess[str]:
    path = write_sweep(tmp_path, evaluate=EVALUATE, **sections)
    command = [sys.executable, "-m", "ensgan", "sweep", str(path), "--address", address, "--json"]
    where = ["--storage", str(tmp_path / "runs")]
    return subprocess.run([*command, *where], capture_output=True, text=True, timeout=400)


def wait_for(address: str) -> None:
    import time

    host, _, port = address.removeprefix("ray://").rpartition(":")
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_through_ray_client_is_the_sweep(tmp_path: Path, address: str) -> None:
    wait_for(address)
    expected = {
        member.name: member.sha256
        for gan in ("SNGAN", "ACGAN-Mod")
        for member in launch.train_one(parse_spec(tiny()), gan, storage=tmp_path / "here")
    }
    done = sweep(tmp_path, address)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"stage", "member", "strategy", "done"} <= {event["event"] for event in events}
    assert events[-1]["members"] == 4 and events[-1]["run_id"]
    manifest = json.loads((tmp_path / "runs" / "sweeps" / "tiny" / "manifest.json").read_text())
    assert {name: m["sha256"] for name, m in manifest["members"].items()} == expected
    refused = sweep(tmp_path, address, seed=8)
    assert refused.returncode == 2 and "seed: 7 → 8" in refused.stderr
    assert refused.stderr.count("\n") <= 5, "one clear message, no traceback"
