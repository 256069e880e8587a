"""A real sweep on Ray, steered from a second shell, comes to the members of an undisturbed one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import write_sweep

from ensgan.sweep.folder import sweep_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TRAIN = {"gans": ["SNGAN", "ACGAN-Mod"], "steps": 300, "snapshots": 2, "resume_every": 150}


class Shell:
    """Types commands about one storage."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home, self.drivers = home, []
        self.file = write_sweep(home, train=TRAIN, cluster={"max_concurrent": 1})

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "ensgan", *words, "--storage", str(self.home / "runs")]

    def sweep(self, *words: str) -> subprocess.Popen[str]:
        command = self.words("sweep", str(self.file), "--json", *words)
        driver = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.drivers.append(driver)
        return driver

    def __call__(self, *words: str) -> dict[str, Any]:
        done = subprocess.run(
            self.words(*words, "--json"), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def refuses(self, *words: str) -> str:
        done = subprocess.run(self.words(*words), capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stderr

    def gan(self, name: str) -> dict[str, Any]:
        (row,) = (row for row in self("status", "tiny")["gans"] if row["gan"] == name)
        return row

    def until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 900
        while not is_so():
            assert time.monotonic() < deadline, self("status", "tiny")
            time.sleep(0.5)

    def members(self) -> dict[str, str]:
        found = sweep_folder(self.home / "runs", "tiny").read().members
        return {name: member.sha256 for name, member in sorted(found.items())}


@pytest.fixture
def shells(tmp_path: Path) -> Iterator[tuple[Shell, Shell]]:
    shells = Shell(tmp_path / "plain"), Shell(tmp_path / "steered")
    yield shells
    for driver in (driver for shell in shells for driver in shell.drivers):
        if driver.poll() is None:  # the test failed: Ray ends with its driver
            driver.terminate()
            driver.wait(60)


def test_stopped_retried_paused_and_raised(shells: tuple[Shell, Shell]) -> None:
    plain, shell = shells
    driver = shell.sweep("--gpu-hours", "5")
    shell.until(lambda: (shell.home / "runs/sweeps/tiny/steer/open").exists())
    # Running alone would not do: a trial has a slot before it has made a step.
    shell.until(lambda: any(row["step"] for row in shell("status", "tiny")["gans"]))
    first = next(row["gan"] for row in shell("status", "tiny")["gans"] if row["step"])
    other = next(gan for gan in TRAIN["gans"] if gan != first)  # type: ignore[attr-defined]

    assert shell("pause", "tiny", "--gan", first, "--wait")["state"] == "done"
    (checkpoint,) = (shell.home / "runs/sweeps/tiny/train").glob(f"{first}-*/resume.pt")
    assert "nothing to retry" in shell.refuses("retry", "tiny", "--gan", first)
    assert "did you mean" in shell.refuses("stop", "tiny", "--gan", first[:-1] + "M")
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(b"damaged")
    assert shell("priority", "tiny", "7", "--gan", first)["state"] in ("taken", "done")
    assert shell("pause", "tiny", "--gan", other, "--wait")["state"] == "done"
    assert shell("resume", "tiny", "--gan", first, "--wait")["message"] == f"{first} has a slot"
    shell.until(lambda: first in shell("status", "tiny")["failed"])
    checkpoint.write_bytes(whole)
    assert shell("retry", "tiny", "--gan", first, "--wait")["state"] == "done"
    assert not shell("status", "tiny")["failed"]
    assert "6 hours" in shell("budget", "tiny", "--gpu-hours", "6")["message"]
    assert shell("pause", "tiny", "--wait")["state"] == "done"
    assert shell("status", "tiny")["state"] == "paused"
    assert shell("resume", "tiny", "--wait")["state"] == "done"
    shell("stop", "tiny", "--wait")
    said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0 and "stopped by `ensgan stop`" in said
    assert "no process runs" in shell.refuses("pause", "tiny")

    for each in (shell, plain):
        driver = each.sweep()
        said, _ = driver.communicate(timeout=600)
        assert driver.returncode == 0, said
    assert shell.members() == plain.members() and len(plain.members()) == 4
    assert all(row["state"] == "done" for row in shell("status", "tiny")["gans"])
    log = sweep_folder(shell.home / "runs", "tiny").log(first).read_text()
    assert "ended by request" in log and "FAILED\nTraceback" in log and f"{first}@300 is a" in log
