"""The small sweep on Ray: the same members as without it, whatever is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import tiny, write_sweep

import ensgan.registry as plugin_files
from ensgan.config import parse_spec
from ensgan.errors import EnsganError, InputError
from ensgan.launch import sweep as launch
from ensgan.sweep.events import Event, SweepResult
from ensgan.zoo import table

STEPS = {"steps": 60, "snapshots": 2, "resume_every": 5}
SMALL = {"strategies": ["real", "selected"], "repeats": 1}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the members, made in this process without Ray."""
    storage = tmp_path_factory.mktemp("undisturbed")
    members = []
    spec = parse_spec(tiny(train=STEPS))
    for gan in ("SNGAN", "ACGAN-Mod"):
        members += launch.train_one(spec, gan, storage=storage)
    return {member.name: member.sha256 for member in members}


def hashes(result: SweepResult) -> dict[str, str]:
    return {member.name: member.sha256 for member in result.members}


def heartbeats(storage: Path) -> list[dict]:
    found = []
    for path in storage.glob("sweeps/tiny/train/*/heartbeat.json"):
        try:
            found.append(json.loads(path.read_text()))
        except (OSError, ValueError):
            continue
    return found


def when(condition: Callable[[], bool], act: Callable[[], None], stop: threading.Event) -> None:
    while not stop.wait(0.05):
        if condition():
            act()
            return


@pytest.mark.timeout(300)
@pytest.mark.slow  # the default tests kill a node, with its trials
def test_a_killed_trial_goes_on_and_gives_the_same_members(
    tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    killed: list[int] = []
    stop = threading.Event()

    def kill() -> None:
        for beat in heartbeats(tmp_path):
            if 5 < beat["step"] < 30:
                os.kill(beat["pid"], signal.SIGKILL)
                killed.append(beat["pid"])
                return

    def ready() -> bool:
        kill()
        return bool(killed)

    killer = threading.Thread(target=when, args=(ready, lambda: None, stop))
    killer.start()
    events: list[Event] = []
    slow = {**STEPS, "batch": 8}
    try:
        result = launch.run_sweep(
            parse_spec(tiny(train=slow, evaluate=SMALL)),
            storage=tmp_path,
            on_event=events.append,
        )
    finally:
        stop.set()
        killer.join()
    assert killed, "no trial was caught alive: the test proved nothing"
    assert result.failed == {} and result.run_id is not None
    assert hashes(result) == undisturbed
    assert {event.kind for event in events} >= {"stage", "member", "strategy"}


@pytest.mark.timeout(300)
@pytest.mark.slow  # the default tests kill a driver on a cluster
def test_a_killed_driver_resumes_and_gives_the_same_members(
    tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    sweep = write_sweep(tmp_path, train=STEPS, evaluate=SMALL)
    command = [
        sys.executable,
        "-m",
        "ensgan",
        "sweep",
        str(sweep),
        "--storage",
        str(tmp_path),
        "--json",
    ]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 250
    try:
        while not any(beat["step"] > 5 for beat in heartbeats(tmp_path)):
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        driver.kill()
        driver.wait()
    finished = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert finished.returncode == 0, finished.stderr
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    done = lines[-1]
    assert done["event"] == "done" and done["members"] == 4 and done["run_id"]
    manifest = json.loads((tmp_path / "sweeps" / "tiny" / "manifest.json").read_text())
    assert {name: m["sha256"] for name, m in manifest["members"].items()} == undisturbed


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupt_ends_a_sweep_where_it_is(tmp_path: Path, number: signal.Signals) -> None:
    """Tune alone would end its run as if it were done, and the sweep go on with half a pool.

    To SIGTERM Ray's answer would be a dump of its C++ frames and an abort.
    """
    sweep = write_sweep(tmp_path, train={**STEPS, "steps": 3000}, evaluate=SMALL)
    command = [sys.executable, "-m", "ensgan", "sweep", str(sweep), "--json"]
    driver = subprocess.Popen(
        [*command, "--storage", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    for line in driver.stdout:
        if json.loads(line)["event"] == "progress":
            break
    driver.send_signal(number)
    out, said = driver.communicate(timeout=120)
    assert said.splitlines()[-1] == "interrupted: the same command goes on from here"
    assert driver.returncode == 130
    assert not [line for line in out.splitlines() if json.loads(line).get("stage") == "score"]


def test_an_impossible_request_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"a trial asks for 1 GPU, the cluster's largest node has 0"
    ):
        launch.run_sweep(parse_spec(tiny(cluster={"gpus_per_trial": 1.0})), storage=tmp_path)


def test_no_cluster_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # "auto" would find any Ray of this machine, such as that of another test.
    monkeypatch.setattr("ray._private.services._find_address_from_flag", lambda flag: set())
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match="no Ray cluster at 'auto'"):
        launch.run_sweep(parse_spec(tiny()), storage=tmp_path, address="auto")


def chaos(folder: Path, *options: str) -> dict[str, Any]:
    """Run the chaos script; what it says at its end."""
    script = Path(__file__).parents[2] / "scripts" / "chaos.py"
    done = subprocess.run(
        [sys.executable, str(script), "--folder", str(folder), *options],
        capture_output=True,
        text=True,
    )
    log = folder / "driver.log"
    shown = log.read_text()[-3000:] if log.exists() else ""
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{shown}"
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.timeout(600)
def test_a_killed_node_and_driver_of_a_cluster_lose_no_member(tmp_path: Path) -> None:
    options = ["--gans", "SNGAN", "ACGAN-Mod", "--steps", "80", "--pause", "0.2"]
    result = chaos(tmp_path, "--kills", "2", "--kinds", "node", "driver", *options)
    assert result["lost"] == result["different"] == 0 and result["members"] == 10
    assert result["kinds"] == "1 × node, 1 × driver" and result["recorded"]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_five_kills_and_signals_lose_no_member(tmp_path: Path) -> None:
    kinds = ("merge", "sigterm", "node", "sigint", "trial")
    options = ["--gans", "SNGAN", "ACGAN-Mod", "--steps", "90", "--kinds", *kinds]
    result = chaos(tmp_path, "--kills", "5", *options)
    assert result["lost"] == result["different"] == result["tracebacks"] == 0
    assert result["kills"] == 5 and all(kind in result["kinds"] for kind in kinds)


PLUGIN = """
import dataclasses

import ray
import torch
from ensgan import zoo

if ray.is_initialized() and ray.get_runtime_context().get_actor_id():
    share = ray.get_runtime_context().get_assigned_resources().get("GPU", 0)
    if share < 0.8:
        raise torch.OutOfMemoryError(f"CUDA out of memory with {share:g} of a GPU")
zoo.register(dataclasses.replace(zoo.get("SNGAN"), name="OwnOfThisTest"))
"""


@pytest.mark.timeout(300)
def test_out_of_memory_is_tried_again_with_more_and_errors_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two GPUs that do not exist: enough to see what is asked for, and how it ends."""
    import ray

    monkeypatch.setattr(table.gans, "_variants", dict(table.gans._variants))
    monkeypatch.setattr(plugin_files, "_plugins", {})
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    events: list[Event] = []
    spec = parse_spec(
        tiny(train={**STEPS, "plugins": [str(plugin)]}, cluster={"gpus_per_trial": 0.25})
    )
    ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(EnsganError, match="only 0 members"):
            launch.run_sweep(spec, storage=tmp_path, on_event=events.append)
    finally:
        ray.shutdown()
    larger = [e.fields["message"] for e in events if e.kind == "warning"]
    for gan in ("SNGAN", "ACGAN-Mod"):
        assert f"{gan} ran out of GPU memory: again with 0.5 of a GPU" in larger
        assert f"{gan} ran out of GPU memory: again with 1 of a GPU" in larger
    failed = {e.fields["gan"]: e.fields["error"] for e in events if e.kind == "failed"}
    assert all("needs an NVIDIA GPU" in reason for reason in failed.values()) and len(failed) == 2
    assert not [e for e in events if e.kind == "lost"], "an error of the code is not retried"
