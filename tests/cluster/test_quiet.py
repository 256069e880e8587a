"""A local session starts what it needs and nothing else, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys

import psutil

CODE = """
import json, psutil, ray
from ensgan.cluster.session import ray_session
with ray_session(cpus=1):
    assert ray.get(ray.remote(lambda: 7).remote()) == 7
    below = psutil.Process().children(recursive=True)
    print(json.dumps([[p.pid, " ".join(p.cmdline())] for p in below]))
"""


def test_no_dashboard_monitor_or_agent() -> None:
    import json

    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    processes = json.loads(done.stdout.splitlines()[-1])
    lines = "\n".join(line for _, line in processes)
    assert "raylet" in lines and "gcs_server" in lines
    for unwanted in ("dashboard.py", "DashboardAgent", "monitor.py"):
        assert unwanted not in lines
    assert not [pid for pid, line in processes if psutil.pid_exists(pid) and "raylet" in line]
    assert "Traceback" not in done.stderr


BESIDE_ANOTHER = """
import ray
from ray.cluster_utils import Cluster
from ensgan.cluster.session import ray_session
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3})
try:
    with ray_session(cpus=1):
        print(int(ray.cluster_resources()["CPU"]))
finally:
    cluster.shutdown()
"""


def test_a_local_session_is_its_own_beside_a_running_cluster() -> None:
    """It neither joins the cluster of somebody else on this machine nor stumbles over it."""
    command = [sys.executable, "-c", BESIDE_ANOTHER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "1"
