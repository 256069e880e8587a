"""The commands of ``docs/cluster.md``: those that need no cluster of one's own are tried."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
from pathlib import Path

import pytest
import ray
import yaml
from tiny_sweep import tiny

from ensgan.cli.app import load_command
from ensgan.cluster import trainable
from ensgan.config import parse_spec

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)
SHELL = [text for language, text in BLOCKS if language == "sh"]
YAML = [text for language, text in BLOCKS if language == "yaml"]


def commands(program: str) -> list[list[str]]:
    """Words of every command of a program, continued lines joined, comments dropped."""
    found = []
    for text in SHELL:
        for line in text.replace("\\\n", " ").splitlines():
            words = line.split("#")[0].replace("--follow my", "--follow my").split()
            while program in words:
                words = words[words.index(program) + 1 :]
                end = words.index("--") if "--" in words else len(words)
                found.append(words[:end])
    return found


def options(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if word.startswith("--") and word != "--"}


@pytest.mark.parametrize("text", SHELL)
def test_shell_parses(text: str) -> None:
    subprocess.run(["bash", "-n", "-c", text], check=True)


def test_options_of_ensgan_exist() -> None:
    sweeps = [words for words in commands("ensgan") if words[0] == "sweep"]
    assert len(sweeps) >= 3
    known = {name for parameter in load_command("sweep").params for name in parameter.opts}
    for words in sweeps:
        assert options(words) <= known, words


def test_options_of_ray_exist() -> None:
    from ray.scripts.scripts import cli

    for words in commands("ray"):
        command = cli
        while hasattr(command, "commands"):
            command, words = command.commands[words[0]], words[1:]
        known = {name for parameter in command.params for name in parameter.opts}
        assert options(words) <= known, (command.name, words)


def test_the_cluster_section_is_valid() -> None:
    section = next(text for text in YAML if text.startswith("cluster:"))
    spec = parse_spec(tiny(**yaml.safe_load(section)))
    assert spec.cluster.gpus_per_trial == "auto"


def test_the_kubernetes_object_is_yaml_with_one_claim() -> None:
    job = yaml.safe_load(next(text for text in YAML if "kind: RayJob" in text))
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    # Without it the workers, of which there are none at first, never come.
    assert cluster["enableInTreeAutoscaling"] is True
    assert {worker["minReplicas"] for worker in cluster["workerGroupSpecs"]} == {0}
    assert cluster["rayVersion"] == ray.__version__
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for group in groups
        for volume in group["template"]["spec"]["volumes"]
    }
    assert claims == {"ensgan"}


def test_messages_are_those_of_the_code() -> None:
    source = "\n".join(
        path.read_text() for path in (Path(__file__).parents[2] / "ensgan").rglob("*.py")
    )
    for part in ("no Ray cluster at '", "does not share", "reads other training data"):
        assert part in PAGE and part in source


def test_the_dashboard_asks_for_what_trials_export() -> None:
    """Ray puts ``ray_`` before the names."""
    exporter = inspect.getsource(trainable._Exporter)
    exported = {f"ray_{name}" for name in re.findall(r'"(ensgan_\w+)"', exporter)}
    dashboard = json.loads((Path(__file__).parents[2] / "docs" / "grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"ray_ensgan_\w+", target["expr"])
    }
    assert asked == exported and len(asked) == 4
