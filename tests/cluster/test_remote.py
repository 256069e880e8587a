"""A sweep started from outside of a cluster, by ray://."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import free_port
from tiny_sweep import tiny, write_sweep

from ensgan.cluster import remote
from ensgan.cluster.head import HeadDriver, RemoteSweep
from ensgan.errors import InputError
from ensgan.sweep.sweep_file import files_beside


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a head's Ray Client server; Ray wants short paths for its sockets."""
    log = tmp_path_factory.mktemp("head") / "log"
    port = free_port()
    options = ["--include-dashboard=false", "--disable-usage-stats", "--num-cpus=2"]
    options += ["--object-store-memory=100000000", f"--port={free_port()}"]
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"]
    with log.open("w") as file:
        head = subprocess.Popen(
            [*command, *options, f"--ray-client-server-port={port}"],
            stdout=file,
            stderr=file,
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
            start_new_session=True,
        )
    deadline = time.monotonic() + 120
    while socket.socket().connect_ex(("127.0.0.1", port)):
        assert head.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    yield f"ray://127.0.0.1:{port}"
    head.terminate()
    head.wait(60)


def run(sweep: Path, cluster: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ensgan", "sweep", str(sweep), "--address", cluster, "--json"]
    return subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )


@pytest.mark.timeout(300)
def test_a_sweep_over_ray_client(tmp_path: Path, cluster: str) -> None:
    options = ["--storage", str(tmp_path / "store"), "--allow-open-cluster"]
    swept = run(write_sweep(tmp_path), cluster, *options)
    out, said = swept.communicate()
    assert swept.returncode == 0, said
    done = json.loads(out.splitlines()[-1])
    assert done["event"] == "done" and done["members"] == 4 and done["run_id"]
    assert Path(done["folder"]) == tmp_path / "store/sweeps/tiny"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_sweep_lost_sight_of(tmp_path: Path, cluster: str) -> None:
    """It goes on, is refused to another request, watched again, interrupted, and resumed."""
    sweep = write_sweep(tmp_path, train={"steps": 4000, "snapshots": 2, "resume_every": 5})
    options = ["--storage", str(tmp_path / "store"), "--allow-open-cluster"]

    first = run(sweep, cluster, *options)
    assert first.stdout is not None
    for line in first.stdout:
        if json.loads(line)["event"] == "progress":
            break
    first.kill()  # the connection is lost, the sweep goes on
    first.communicate()

    other = run(sweep, cluster, *options, "--set", "train.steps=6")
    assert "runs on that cluster with another file or other options" in other.communicate()[1]
    assert other.returncode == 2

    second = run(sweep, cluster, *options)
    assert second.stdout is not None
    assert json.loads(second.stdout.readline())["stage"] == "prepare", "told from its beginning"
    second.send_signal(signal.SIGINT)
    assert "interrupted: the same command goes on from here" in second.communicate()[1]
    assert second.returncode == 130
    heartbeats = list((tmp_path / "store/sweeps/tiny/train").glob("*/heartbeat.json"))
    steps = max(json.loads(beat.read_text())["step"] for beat in heartbeats)

    third = run(sweep, cluster, *options)
    assert third.stdout is not None
    for line in third.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and "gan" in event:
            assert event["step"] >= min(5, steps), "it resumed"
            break
    third.send_signal(signal.SIGINT)
    third.communicate()
    assert third.returncode == 130


def test_what_travels(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/own.py").write_text("def make(n, labels, seed): ...")
    sweep = write_sweep(tmp_path, members=[{"name": "own", "generator": "code/own.py:make"}])
    assert files_beside(sweep) == ("code/own.py",)
    packed = remote.pack(sweep, ["seed=3"], {"--storage": tmp_path}, ["--fresh"])
    assert list(packed.files) == ["tiny.yaml", "code/own.py"]
    assert packed.options == ("--set=seed=3", "--fresh", "--storage", str(tmp_path))
    assert packed.has_storage and packed.name == "tiny"


@pytest.mark.parametrize("images", ["images", "../images"])
def test_folders_beside_the_sweep_cannot_travel(tmp_path: Path, images: str) -> None:
    (tmp_path / "images").mkdir()
    sweep = write_sweep(tmp_path, members=[{"name": "own", "images": images}])
    with pytest.raises(InputError, match=f"'{images}' of the sweep file is no file beside it"):
        remote.pack(sweep, [], {}, [])


def test_folders_of_the_cluster_are_absolute(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--storage runs: give the absolute path"):
        remote.pack(write_sweep(tmp_path), [], {"--storage": Path("runs")}, [])


def test_a_driver_wants_to_know_where_to_keep_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENSGAN_STORAGE", raising=False)
    driver = HeadDriver()
    refusal = driver.start(RemoteSweep("tiny", {}, (), has_storage=False))
    assert refusal is not None and "give --storage" in refusal and driver.is_idle()


def test_nobody_at_the_address() -> None:
    with pytest.raises(InputError, match=r"no Ray cluster at 'ray://127\.0\.0\.1:1'"):
        remote.run_on_head("ray://127.0.0.1:1", RemoteSweep("t", {}, (), True), print)


@pytest.mark.parametrize(("failures", "works"), [(2, True), (3, False)])
def test_a_busy_head_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, failures: int, works: bool
) -> None:
    tries: list[str] = []

    def init(address: str, **_: object) -> None:
        tries.append(address)
        if len(tries) <= failures:
            raise ConnectionAbortedError("Traceback:\nStarting Ray client server failed. See a log")

    monkeypatch.setattr(remote.ray, "init", init)
    monkeypatch.setattr(remote.session, "check_answers", lambda *_: None)
    if works:
        with remote._client("ray://head:10001"):
            assert len(tries) == 3
        return
    refused = pytest.raises(InputError, match=r"answers at 'ray://head:10001': Starting Ray client")
    with refused, remote._client("ray://head:10001"):
        pass


def test_the_tiny_sweep_names_no_files(tmp_path: Path) -> None:
    assert "plugins" not in tiny()["train"] and files_beside(write_sweep(tmp_path)) == ()
