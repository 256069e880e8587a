"""No command joins a Ray cluster that anybody who reaches it may use, unless told to."""

from __future__ import annotations

import contextlib
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
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_sweep import make_sweep
from servers import free_port
from tiny_sweep import write_sweep
from typer.testing import CliRunner

from ensgan.cli.app import COMMANDS, app, load_command
from ensgan.cluster import session
from ensgan.errors import InputError

RAY = str(Path(sys.executable).with_name("ray"))


def takes_address(command: Any, path: str) -> list[str]:
    """Names of the commands, below this one too, that have ``--address``."""
    if hasattr(command, "commands"):
        below = command.commands.items()
        return [name for word, each in below for name in takes_address(each, f"{path} {word}")]
    names = {name for parameter in command.params for name in parameter.opts}
    return [path] if "--address" in names else []


JOINING = [path for name in COMMANDS for path in takes_address(load_command(name), name)]


@pytest.fixture
def words(tmp_path: Path) -> dict[str, list[str]]:
    """Arguments with which each command gets as far as the cluster."""
    storage = tmp_path / "storage"
    make_sweep(storage)
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(20, 4)), rng.normal(size=(3, 10, 4))
    pool = tmp_path / "pool.npz"
    names = np.array(["A", "B", "C"])
    np.savez(pool, real=real.astype(np.float32), fake=fake.astype(np.float32), names=names)
    kept = ["--storage", str(storage)]
    few = ["--strategies", "real,selected", "--repeats", "1", "--width", "4", "--epochs", "1"]
    return {
        "sweep": [str(write_sweep(tmp_path)), *kept],
        "evaluate": ["made", *few, *kept],
        "study": ["made", "-o", str(tmp_path / "study.md"), *few, *kept],
        "score": [str(pool), "-k", "3", "-o", str(tmp_path / "scores.npz")],
    }


def refusal(command: str, *arguments: str) -> str:
    """What a command that must not run says."""
    result = CliRunner().invoke(app, [*command.split(), *arguments])
    assert isinstance(result.exception, InputError), (result.output, result.exception)
    assert result.exception.exit_code == 2
    return str(result.exception)


def test_every_command_that_can_join_is_tried(words: dict[str, list[str]]) -> None:
    assert sorted(JOINING) == sorted(words)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open cluster of no nodes on another machine."""
    monkeypatch.setattr(session.socket, "create_connection", lambda *_: SimpleNamespace(close=int))
    monkeypatch.setattr("ray.init", lambda **_: None)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.nodes", list)
    there = SimpleNamespace(gcs_address="10.0.0.5:6379")
    monkeypatch.setattr("ray.get_runtime_context", lambda: there)
    monkeypatch.setattr(session, "answers_without_token", lambda address: True)


@pytest.mark.parametrize("command", JOINING)
def test_an_open_cluster_is_refused(
    command: str, words: dict[str, list[str]], pretended: None
) -> None:
    there = [*words[command], "--address", "10.0.0.5:6379"]
    said = refusal(command, *there)
    assert "10.0.0.5:6379 takes requests from anybody" in said and "--allow-open-cluster" in said
    assert "largest node has 0" in refusal(command, *there, "--allow-open-cluster")


@pytest.mark.parametrize("command", JOINING)
def test_ray_client_is_answered_with_the_way(command: str, words: dict[str, list[str]]) -> None:
    said = refusal(command, *words[command], "--address", "ray://10.0.0.5:10001")
    assert "ray job submit --address http://127.0.0.1:8265 -- ensgan" in said


def test_a_cluster_that_cannot_be_asked_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(session.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match=r"unknown whether the Ray cluster at .* asks for a token"):
        session.answers_without_token("10.0.0.5:6379")
    ray = tmp_path / "ray"
    ray.write_text("#!/bin/sh\necho Segmentation fault >&2\nexit 139\n")
    ray.chmod(0o755)
    with pytest.raises(InputError, match=r"not used \(Segmentation fault\)"):
        session.answers_without_token("10.0.0.5:6379")


def own_address() -> str:
    """An address at which other machines reach this one; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        address = str(probe.getsockname()[0])
    if session.is_loopback(address):
        pytest.skip("this machine has no address but the loopback's")
    return address


@contextlib.contextmanager
def head(folder: Path, **environment: str) -> Iterator[str]:
    """A real head of one CPU; its address."""
    address = f"{own_address()}:{free_port()}"
    ip, port = address.split(":")
    open_ = {name: text for name, text in os.environ.items() if not name.startswith("RAY_AUTH")}
    with (
        (folder / "ray.log").open("ab") as log,
        tempfile.TemporaryDirectory(prefix="ray-") as short,  # paths of sockets are short
    ):
        options = ["--num-cpus=1", "--include-dashboard=false", "--object-store-memory=100000000"]
        options += [f"--node-ip-address={ip}", f"--port={port}", f"--temp-dir={short}"]
        process = subprocess.Popen(
            [RAY, "start", "--head", "--block", *options],
            env={**open_, "RAY_USAGE_STATS_ENABLED": "0", **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 120
            while socket.socket().connect_ex((ip, int(port))):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
            yield address
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ensgan", *command.split(), *arguments],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_open_head_is_refused_by_every_command(
    words: dict[str, list[str]], tmp_path: Path
) -> None:
    with head(tmp_path, RAY_AUTH_MODE="disabled") as address:
        for command in JOINING:
            done = run(command, *words[command], "--address", address)
            assert done.returncode == 2, (command, done.stderr)
            assert f"{address} takes requests from anybody" in done.stderr
        done = run("score", *words["score"], "--address", address, "--allow-open-cluster")
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_real_head_with_a_token_is_told_from_an_open_one(tmp_path: Path) -> None:
    token = tmp_path / "auth_token"
    token.write_text(secrets.token_hex(32))
    with head(tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token)) as address:
        assert not session.answers_without_token(address)
