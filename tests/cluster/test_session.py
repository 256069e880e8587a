"""A session of Ray changes nothing that outlives it, and is its own beside another cluster."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ensgan.cluster import session
from ensgan.cluster.session import ray_session
from ensgan.errors import InputError

BESIDE_ANOTHER = """
import json, os, psutil, ray
from ray.cluster_utils import Cluster
before = dict(os.environ)
from ensgan.cluster.executor import RayExecutor
from ensgan.cluster import session
from ensgan.cluster.session import ray_session
assert dict(os.environ) == before, "an import set environment variables"
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3})
try:
    with ray_session(cpus=1):
        assert ray.get(ray.remote(lambda: __import__("statistics").mean([7])).remote()) == 7
        print(int(ray.cluster_resources()["CPU"]))
        below = [process.pid for process in psutil.Process().children(recursive=True)]
finally:
    cluster.shutdown()
print(json.dumps(below))
"""


@pytest.mark.timeout(300)
def test_a_local_session_is_its_own_beside_a_running_cluster(tmp_path: Path) -> None:
    """It neither joins the cluster of somebody else on this machine nor leaves processes.

    Its workers import nothing from the folder where it was started.
    """
    (tmp_path / "statistics.py").write_text("raise SystemExit('a script of the user')\n")
    program = tmp_path / "elsewhere" / "program.py"
    program.parent.mkdir()
    program.write_text(BESIDE_ANOTHER)
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    cpus, below = done.stdout.splitlines()[-2:]
    assert cpus == "1" and "Traceback" not in done.stderr
    # Workers end by themselves when they find their raylet gone, on a busy machine seconds later.
    _, left = psutil.wait_procs(list(running(below)), timeout=60)
    assert not [process for process in left if "ray" in process.name()]


def running(pids: str) -> Iterator[psutil.Process]:
    for pid in json.loads(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            yield psutil.Process(pid)


def test_a_session_sets_what_is_unset_and_puts_everything_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Ray that this process is connected to already is used, and left running."""
    calls: list[str] = []
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.init", lambda **_: calls.append("init"))
    monkeypatch.setattr("ray.shutdown", lambda: calls.append("shutdown"))
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "10")
    monkeypatch.delenv("TUNE_DISABLE_SIGINT_HANDLER", raising=False)
    before, level = dict(os.environ), logging.getLogger("ray").level
    with pytest.raises(KeyError), ray_session():
        assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"
        assert os.environ["TUNE_GLOBAL_CHECKPOINT_S"] == "10", "the user's own goes first"
        raise KeyError
    assert dict(os.environ) == before and logging.getLogger("ray").level == level
    assert calls == []


def test_a_long_folder_of_temporary_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray was started"))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "slurm_jobdir_" * 7)
    refused = pytest.raises(InputError, match="set TMPDIR or RAY_TMPDIR to a folder of at most")
    with refused, ray_session():
        pass


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "set RAY_AUTH_MODE=token here too"),
        ({"RAY_AUTH_MODE": "token"}, "set RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "x"}, "RAY_AUTH_TOKEN names is not the"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/no/file"}, "/no/file, which RAY_"),
    ],
)
@pytest.mark.parametrize("error", [ConnectionError, session.ray.exceptions.AuthenticationError])
def test_a_wrong_or_missing_token_is_called_that(
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    said: str,
    error: type[Exception],
) -> None:
    def refuse(**_: object) -> None:
        raise error("failed to connect to GCS")

    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(session.ray, "init", refuse)
    monkeypatch.setattr(session, "answers_without_token", lambda address: False)
    with pytest.raises(InputError, match=f"asks for a token and turned this.*{said}"):
        session._connect("10.0.0.1:6379", None)
    monkeypatch.setattr(session, "answers_without_token", lambda address: True)
    with pytest.raises(InputError, match="no Ray cluster at"):
        session._connect("10.0.0.1:6379", None)


def test_an_interpreter_in_a_folder_with_a_blank_is_quoted_for_ray(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray hands it to a shell as it is: no worker would ever start, and none would be missed."""
    given: list[object] = []
    monkeypatch.setattr("ray.init", lambda **options: given.append(options.get("runtime_env")))
    for python in ("/home/me/.venv/bin/python", "/home/me/my code/.venv/bin/python"):
        monkeypatch.setattr(sys, "executable", python)
        session._start()
    assert given == [None, {"py_executable": "'/home/me/my code/.venv/bin/python'"}]


@pytest.mark.slow
def test_work_runs_on_ray_from_a_folder_with_a_blank(tmp_path: Path) -> None:
    venv = tmp_path / "my code" / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    here = [path for path in sys.path if path]
    (packages / "here.pth").write_text("".join(f"{path}\n" for path in here))
    code = (
        "import ray\n"
        "from ensgan.cluster.session import _start\n"
        "_start(num_cpus=1, log_to_driver=False)\n"
        "task = ray.remote(lambda: __import__('sys').executable)\n"
        "print(ray.get(task.remote(), timeout=100))\n"
    )
    python = venv / "bin" / "python"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stdout.strip() == str(python), done.stderr
