"""``ray_cluster.yaml`` is valid for Ray, safe by default and small to change."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "ray_cluster.yaml"


@pytest.fixture(scope="module")
def cluster() -> dict:
    return yaml.safe_load(FILE.read_text())


@pytest.fixture(scope="module")
def prepared(cluster: dict, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The file as Ray fills it in; the token file exists, as it must."""
    from ray.autoscaler._private.util import prepare_config

    folder = tmp_path_factory.mktemp("token")
    (folder / "auth_token").write_text("0" * 64)
    tree = {**cluster, "file_mounts": {"~/ensgan-token": str(folder)}}
    return prepare_config(tree)


def test_rays_own_schema_accepts_it(prepared: dict) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


def test_rays_own_schema_would_notice(prepared: dict) -> None:
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(Exception, match="max_worker"):
        validate_config({**prepared, "max_worker": 3})


def test_known_keys_only(cluster: dict) -> None:
    """Ray's schema lets typos below the node types pass."""
    for kind in cluster["available_node_types"].values():
        assert set(kind) <= {"resources", "labels", "min_workers", "max_workers", "node_config"}
    assert set(cluster["provider"]) <= {"type", "region", "cache_stopped_nodes"}


def test_workers_scale_and_may_be_spot(cluster: dict) -> None:
    worker = cluster["available_node_types"]["gpu_worker"]
    assert worker["min_workers"] == 0 < worker["max_workers"] <= cluster["max_workers"]
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert cluster["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_image_is_the_users_and_the_same_everywhere(cluster: dict) -> None:
    """Ray's default image has a Python that ensgan does not run on."""
    images = {kind["node_config"]["ImageId"] for kind in cluster["available_node_types"].values()}
    assert len(images) == 1 and set(images.pop().removeprefix("ami-")) == {"0"}


def test_the_autoscaler_finds_its_library(cluster: dict) -> None:
    """By default Ray installs it outside of our environment."""
    assert any(
        "~/venv/bin/pip install" in c and "boto3" in c for c in cluster["head_setup_commands"]
    )


def test_at_most_three_places_to_change() -> None:
    marks = re.findall(r"^\s*# CHANGE (\d)", FILE.read_text(), flags=re.MULTILINE)
    assert marks == ["1", "2", "3"]


def test_closed_and_on_loopback(cluster: dict) -> None:
    head = "\n".join(cluster["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in head and "0.0.0.0" not in FILE.read_text()
    assert "mlflow server --host 127.0.0.1" in head
    for command in cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]:
        if "ray start" in command:
            assert "scripts/cluster.env" in command, "started without the token"


def test_environment_turns_the_token_on() -> None:
    shown = subprocess.run(
        ["bash", "-c", "set -eu; source scripts/cluster.env; env"],
        cwd=ROOT,
        env={"HOME": "/home/me", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "RAY_AUTH_MODE=token" in shown
    assert "RAY_AUTH_TOKEN_PATH=/home/me/ensgan-token/auth_token" in shown


def test_shell_of_every_command_parses(cluster: dict) -> None:
    for key in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        for command in cluster[key]:
            subprocess.run(["bash", "-n", "-c", command], check=True)


def test_options_of_ray_start_exist(cluster: dict) -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    commands = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    used = set(re.findall(r"(--[a-z-]+)=?", " ".join(c for c in commands if "ray start" in c)))
    assert used and used <= known | {"--address"}
