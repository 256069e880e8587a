"""The README's commands, run as a new user would, in order."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from servers import free_port, serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def commands(text: str) -> list[str]:
    """The command lines of a page's shell blocks, without their comments."""
    return [
        line.partition("  #")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", text, flags=re.S)
        for line in block.splitlines()
        if line.strip() and not line.startswith("#")
    ]


class User:
    """Someone with a shell in a folder that has the sweeps, the quickstart made shorter.

    Its real length is for ``scripts/quickstart``: three minutes of two cores say nothing here.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(exist_ok=True)
        shutil.copytree(ROOT / "sweeps", home / "sweeps")
        quickstart = home / "sweeps" / "quickstart.yaml"
        spec = yaml.safe_load(quickstart.read_text())
        spec["train"]["steps"] = 80
        spec["evaluate"] |= {"repeats": 1, "epochs": 2}
        quickstart.write_text(yaml.safe_dump(spec))
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self.run_id = ""

    def __call__(self, command: str) -> str:
        command = command.replace("RUN", self.run_id)
        words = [sys.executable, "-m", *shlex.split(command)]
        done = subprocess.run(
            words, cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    yield User(tmp_path_factory.mktemp("user"))


def test_the_readme_shows_what_this_file_runs() -> None:
    expected = {
        "./scripts/quickstart",
        "./scripts/test",
        "ensgan doctor",
        "ensgan sweep sweeps/quickstart.yaml --dry-run",
        "ensgan sweep sweeps/quickstart.yaml",
        "ensgan status quickstart",
        "ensgan runs",
        "ensgan ui",
        "ensgan report RUN -o report.html",
        "ensgan pull RUN -o out/",
        "ensgan sample out/ -n 64 --seed 1 -o samples.npz",
        "ENSGAN_DATA=FOLDER ensgan sweep sweeps/pneumoniamnist-nano.yaml",
    }
    assert set(commands(README)) == expected


def test_the_two_commands_exist_and_are_shell() -> None:
    for name in ("quickstart", "test"):
        script = ROOT / "scripts" / name
        assert os.access(script, os.X_OK)
        assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    assert "./scripts/test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.timeout(900)
def test_the_main_job(user: User) -> None:
    assert "torch" in user("ensgan doctor")
    plan = json.loads(user("ensgan sweep sweeps/quickstart.yaml --dry-run --json"))
    assert plan["members"] == 8 and plan["wall_seconds"] > 0
    assert not (user.home / "ensgan-runs").exists(), "a dry run writes nothing"
    assert "MLflow run ID: " in user("ensgan sweep sweeps/quickstart.yaml")
    seen = json.loads(user("ensgan status quickstart --json"))
    assert seen["state"] == "finished" and seen["members"] == seen["planned"]
    listed = json.loads(user("ensgan runs --json"))["runs"]
    assert len(listed) == 1
    run = listed[0]
    user.run_id = run["run_id"]
    assert run["members"] == 8 and run["dataset"] == "phantom" and run["selected"]
    user("ensgan report RUN -o report.html")
    assert "Pareto front" in (user.home / "report.html").read_text()
    user("ensgan pull RUN -o out/")
    user("ensgan sample out/ -n 64 --seed 1 -o samples.npz")
    user("ensgan sample out/ -n 10 --seed 1 -o ten.npz")
    many, ten = np.load(user.home / "samples.npz"), np.load(user.home / "ten.npz")
    np.testing.assert_array_equal(many["images"][:10], ten["images"])
    user("ensgan sample RUN -n 10 --seed 1 -o run.npz")
    np.testing.assert_array_equal(np.load(user.home / "run.npz")["images"], ten["images"])


@pytest.mark.timeout(300)
def test_the_python_of_the_readme(user: User) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    script = user.home / "readme.py"
    script.write_text(
        f"{block}\nimport numpy as np\nprint(result.run_id)\n"
        "assert samples.images.shape == (64, 32, 32) and len(result.front.points) >= 1\n"
        "other = np.load('samples.npz')\n"
        "np.testing.assert_array_equal(samples.images, other['images'])\n"
    )
    done = subprocess.run(
        [sys.executable, "readme.py"], cwd=user.home, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert user.run_id in done.stdout, "the finished sweep answered at once"


@pytest.mark.timeout(600)
def test_the_commands_of_the_sweeps_page(user: User) -> None:
    page = commands((ROOT / "docs" / "sweeps.md").read_text())
    assert len(page) == 11
    for command in page:
        if "merge" in command or "both.yaml" in command:
            continue  # two sweeps: tests/test_tutorials.py::test_vary_grow_merge
        if "seed=3" in command:  # of a sweep that began with another seed: refused, exit code 2
            with pytest.raises(AssertionError):
                user(command)
        elif command.split()[1] in ("pause", "resume", "add"):
            # A running one: tests/cluster/test_steered.py.
            with pytest.raises(AssertionError, match="no process runs sweep 'quickstart' now"):
                user(command)
        else:
            user(command)


@pytest.mark.timeout(120)
def test_the_ui_answers_on_loopback(user: User) -> None:
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "ensgan", "ui", "--port", port]
    with serving(command, f"{address}/health", user.home):
        pass


@pytest.mark.timeout(300)
def test_another_process_with_nothing_but_the_store(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep's folder is gone: pulling by run ID still makes the same bytes."""
    for name in ("sweeps", "cache"):
        (user.home / "ensgan-runs" / name).rename(tmp_path / name)
    database = user.home / "ensgan-runs" / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    other = User(tmp_path / "other")
    other.run_id = user.run_id
    other("ensgan pull RUN -o pulled/")
    other("ensgan sample pulled/ -n 64 --seed 1 -o again.npz")
    assert (other.home / "again.npz").read_bytes() == (user.home / "samples.npz").read_bytes()


def test_the_sweeps_are_valid(shared: Path) -> None:
    from ensgan.sweep.planning.sweep_file import load_sweep
    from ensgan.sweep.resolving import resolve

    for path in sorted((ROOT / "sweeps").glob("*.yaml")):
        spec = load_sweep(path)
        assert spec.name == path.stem
        if spec.dataset.name in ("phantom", "pneumoniamnist"):
            spec = (
                load_sweep(path, ["dataset.options.accept_checksum=any"])
                if (spec.dataset.name == "pneumoniamnist")
                else spec
            )
            assert resolve(spec, shared / "data").gans
