#!/usr/bin/env python3
"""Run a small sweep on a real Ray cluster (several nodes on this machine) while killing things.

Every kill waits until the sweep has got further than at the kill before. In turn: a trial's
process, a worker node, the driver, the MLflow server, the head with all nodes and the driver.
At the end the members' hashes are compared with those of an undisturbed run without Ray.

Exit code: 0 when no member is lost or different, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    OMP_NUM_THREADS="1",
)

import yaml
from ray.cluster_utils import Cluster

GANS = ["SNGAN", "SAGAN", "ACGAN-Mod", "BigGAN"]
KINDS = ["trial", "node", "trial", "driver", "trial", "node", "trial", "mlflow"]
KINDS += ["trial", "driver", "node", "head"]
"""In turn, again and again."""
PATIENCE = 900.0


def spec(args: argparse.Namespace, uri: str | None) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "name": "chaos",
        "seed": 11,
        "dataset": {"name": "phantom", "options": {"n_train": 160, "n_val": 60, "n_test": 60}},
        "train": {
            "gans": args.gans,
            "steps": args.steps,
            "snapshots": 5,
            "width": 0.03125,
            "batch": 8,
            "d_updates": 1,
            "resume_every": 5,
        },
        "search": {"sampler": "ensemble", "trials": 40},
        "evaluate": {"strategies": ["real", "selected"], "repeats": 1, "epochs": 1, "width": 4},
        "cluster": {"retries": 2},
    }
    if uri is not None:
        tree["track"] = {"uri": uri}
    return tree


class Scene:
    """A cluster, an MLflow server and a driver, each of which can be killed and comes back."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.folder, self.args = folder, args
        self.storage = folder / "disturbed"
        self.port = free_port()
        self.sweep = folder / "chaos.yaml"
        self.with_mlflow = "mlflow" in args.kinds
        uri = f"http://127.0.0.1:{self.port}" if self.with_mlflow else None
        self.sweep.write_text(yaml.safe_dump(spec(args, uri)))
        self.output = (folder / "driver.log").open("ab")
        self.cluster: Any = None
        self.start_cluster()
        self.mlflow = self.start_mlflow() if self.with_mlflow else None
        self.driver = self.start_driver()

    def start_cluster(self) -> None:
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.workers = [self.cluster.add_node(num_cpus=1) for _ in range(2)]

    def start_mlflow(self) -> subprocess.Popen[bytes]:
        database = f"sqlite:///{self.folder / 'mlflow.db'}"
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--workers",
            "1",
        ]
        options = ["--port", str(self.port), "--backend-store-uri", database]
        artifacts = ["--artifacts-destination", str(self.folder / "artifacts")]
        log = (self.folder / "mlflow.log").open("ab")
        return subprocess.Popen(
            command + options + artifacts, stdout=log, stderr=log, start_new_session=True
        )

    def start_driver(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ensgan", "sweep", str(self.sweep), "--json"]
        where = ["--storage", str(self.storage), "--address", self.cluster.address]
        return subprocess.Popen(
            [*command, *where, "--allow-open-cluster"],
            stdout=self.output,
            stderr=self.output,
            start_new_session=True,
        )

    def beats(self) -> list[dict[str, Any]]:
        found = []
        for path in self.storage.glob("sweeps/chaos/train/*/heartbeat.json"):
            try:
                found.append(json.loads(path.read_text()))
            except (OSError, ValueError):
                continue
        return found

    def kill_trial(self) -> str | None:
        """The trial that was heard of last; None when none runs."""
        beat = max(self.beats(), key=lambda beat: float(beat["time"]), default=None)
        if beat is None or time.time() - beat["time"] > 5 or beat["step"] >= beat["steps"]:
            return None
        try:
            os.kill(int(beat["pid"]), signal.SIGKILL)
        except ProcessLookupError:
            return None
        return f"{beat['gan']} at step {beat['step']}"

    def kill_node(self) -> str:
        node = self.workers.pop(0)
        self.cluster.remove_node(node, allow_graceful=False)
        self.workers.append(self.cluster.add_node(num_cpus=1))
        return "a worker node; a fresh one joined"

    def kill_driver(self) -> str:
        kill_group(self.driver)
        self.driver = self.start_driver()
        return "the driver; started again"

    def kill_mlflow(self) -> str:
        assert self.mlflow is not None
        kill_group(self.mlflow)
        self.mlflow = self.start_mlflow()
        return "the MLflow server; started again"

    def kill_head(self) -> str:
        for node in (*self.workers, self.cluster.head_node):
            self.cluster.remove_node(node, allow_graceful=False)
        kill_group(self.driver)
        self.start_cluster()
        self.driver = self.start_driver()
        return "the head, all nodes and the driver; a new cluster"

    def close(self) -> None:
        kill_group(self.driver)
        if self.mlflow is not None:
            kill_group(self.mlflow)
        self.cluster.shutdown()
        self.output.close()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A port that nobody listens on, and none that every head of Ray takes for itself."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in {44217, 44227, 52365}:
            return port


def progress(scene: Scene) -> int:
    """Steps of the resume checkpoints and snapshots so far: what a kill cannot take back."""
    return sum(int(beat["step"]) // 5 * 5 for beat in scene.beats())


def disturb(scene: Scene, args: argparse.Namespace) -> list[tuple[float, str, str]]:
    """Kill on the schedule until enough are dead or the sweep has ended."""
    chance = random.Random(args.seed)
    begin, reached, kills = time.monotonic(), 0, []
    wanted = args.kinds[0]
    while len(kills) < args.kills:
        time.sleep(0.2)
        if scene.driver.poll() is not None:
            break
        if time.monotonic() - begin > PATIENCE + 120 * len(kills):
            raise SystemExit(f"no progress: see {scene.folder}")
        if progress(scene) <= reached:
            continue
        time.sleep(chance.uniform(0, args.pause))
        what = getattr(scene, f"kill_{wanted}")()
        if what is None:
            continue
        reached = progress(scene)
        kills.append((time.monotonic() - begin, wanted, what))
        print(f"{kills[-1][0]:6.1f} s  kill {len(kills):2}  {wanted:7} {what}", flush=True)
        wanted = args.kinds[len(kills) % len(args.kinds)]
    return kills


def hashes(storage: Path) -> dict[str, str]:
    manifest = json.loads((storage / "sweeps" / "chaos" / "manifest.json").read_text())
    return {name: member["sha256"] for name, member in sorted(manifest["members"].items())}


def undisturbed(folder: Path, args: argparse.Namespace) -> dict[str, str]:
    sweep = folder / "undisturbed.yaml"
    sweep.write_text(yaml.safe_dump(spec(args, None)))
    command = [sys.executable, "-m", "ensgan", "sweep", str(sweep), "--address", "none", "--json"]
    storage = folder / "undisturbed"
    subprocess.run([*command, "--storage", str(storage)], check=True, stdout=subprocess.DEVNULL)
    return hashes(storage)


def recorded(scene: Scene) -> bool:
    """The store holds the parent run."""
    if not scene.with_mlflow:
        return (scene.storage / "sweeps/chaos/recorded.json").exists()
    body = json.dumps({"experiment_ids": ["1"], "max_results": 200}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{scene.port}/api/2.0/mlflow/runs/search",
        data=body,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        runs = json.load(reply).get("runs", [])
    return any(run["info"]["run_name"] == "chaos" for run in runs)


def report(result: dict[str, Any]) -> str:
    kills = "\n".join(
        f"| {i + 1} | {t:.0f} | {k} | {w} |" for i, (t, k, w) in enumerate(result["kills"])
    )
    return f"""# Chaos: kills against a running sweep

`{result["command"]}` at commit {result["commit"]}, {result["date"]}, {result["machine"]}.
{len(result["kills"])} kills ({result["kinds"]}), {result["members"]} members,
**{result["lost"]} lost, {result["different"]} different** from an undisturbed run without Ray
(SHA-256 of every member's weights). The sweep ended by itself with exit code {result["exit_code"]}
after {result["seconds"]:.0f} s (undisturbed: {result["undisturbed_seconds"]:.0f} s); its run was in
MLflow at the end: {"yes" if result["recorded"] else "no"}. Losses the driver counted:
{json.dumps(result["losses"])}.

| kill | s | what | |
|---:|---:|---|---|
{kills}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400, help="of each GAN")
    parser.add_argument("--gans", nargs="+", default=GANS)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=sorted(set(KINDS)))
    parser.add_argument("--pause", type=float, default=2.0, help="most seconds before a kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="write a page about it here")
    parser.add_argument("--folder", type=Path, help="work here [default: a temporary folder]")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="ensgan-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    expected = undisturbed(folder, args)
    calm = time.monotonic() - begin
    print(f"undisturbed: {len(expected)} members in {calm:.0f} s", flush=True)
    begin = time.monotonic()
    scene = Scene(folder, args)
    try:
        kills = disturb(scene, args)
        code = scene.driver.wait(timeout=1800)
        seconds = time.monotonic() - begin
        found = hashes(scene.storage)
        manifest = json.loads((scene.storage / "sweeps/chaos/manifest.json").read_text())
        was_recorded = recorded(scene)
    finally:
        scene.close()
    result: dict[str, Any] = {
        "command": " ".join(["scripts/chaos", *sys.argv[1:]]),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} CPUs, Python {platform.python_version()}",
        "kills": kills,
        "kinds": ", ".join(f"{n} × {k}" for k, n in Counter(k for _, k, _ in kills).items()),
        "members": len(found),
        "lost": len(expected.keys() - found.keys()),
        "different": sum(found[name] != expected[name] for name in expected.keys() & found.keys()),
        "exit_code": code,
        "seconds": seconds,
        "undisturbed_seconds": calm,
        "losses": manifest["losses"],
        "recorded": was_recorded,
    }
    if args.log:
        args.log.write_text(report(result))
    print(json.dumps({**result, "kills": len(kills)}))
    good = code == 0 and not result["lost"] and not result["different"]
    return 0 if good and len(kills) >= args.kills else 1


if __name__ == "__main__":
    sys.exit(main())
