#!/usr/bin/env python3
"""Run a small sweep on a real Ray cluster (several nodes on this machine) while killing things.

Every kill waits until the sweep has got further than at the kill before, so that all stages have
their share: training, validation, evaluation, handing over. In turn: a trial's process, a worker
node, the driver (killed, or told to end by SIGTERM, SIGHUP or SIGINT; for ``merge`` killed again
while it opens the sweep and takes the members of another), the MLflow server, the head with all
nodes and the driver.
With ``--stages`` a kill waits for the stage whose turn it is, from the opening to the recording and
the growth; with ``--packs`` GANs that share a pretended GPU are trained by one process, and that is
what a kill of a trial hits. A sweep that ends before enough are dead grows by a fifth and goes on.
At the end the members' hashes, the choice and the table are compared with those of an undisturbed
run without Ray that grew as often.

Exit code: 0 when nothing is lost or different, 1 otherwise; tracebacks of drivers are counted.
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
from collections.abc import Mapping
from contextlib import suppress
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
from ray._private import services
from ray.cluster_utils import Cluster

GANS = ["SNGAN", "SAGAN", "ACGAN-Mod", "BigGAN"]
KINDS = ["trial", "node", "trial", "driver", "trial", "node", "trial", "mlflow"]
KINDS += ["sigterm", "driver", "merge", "sighup", "node", "sigint", "head"]
"""In turn, again and again."""
AIMED = ["driver", "sigterm", "sigint", "sighup"]
STAGES = ["opening", "members", "train", "score", "search", "select", "evaluate", "hand over"]
STAGES += ["record", "growth"]
"""Of the driver; the growth is the opening of a sweep whose file asks for more than it has."""
PATIENCE = 900.0
SNAPSHOTS = 5
"""At first; a sweep grows by one, so that what it has stays and nothing is trained again."""


def spec(args: argparse.Namespace, uri: str | None) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "name": "chaos",
        "seed": 11,
        "dataset": {"name": "phantom", "options": {"n_train": 160, "n_val": 60, "n_test": 60}},
        "train": {
            "gans": args.gans,
            "steps": args.steps,
            "snapshots": args.steps // (args.first_steps // SNAPSHOTS),
            "width": 0.03125,
            "batch": 8,
            "d_updates": 1,
            "resume_every": 5,
        },
        "search": {"sampler": "ensemble", "trials": 40},
        "select": {"rule": "validated"},
        "evaluate": {"strategies": ["real", "selected"], "repeats": 1, "epochs": 1, "width": 4},
        "cluster": {"retries": 2},
    }
    if takes_members(args):
        tree["members"] = [{"sweep": "other"}]
    if args.packs:
        tree["cluster"] |= {"gpus_per_trial": 0.25, "gans_per_process": 4}
    if uri is not None:
        tree["track"] = {"uri": uri}
    return tree


def asked(gans: list[str], steps: int) -> argparse.Namespace:
    """Arguments of a sweep that nothing is done to."""
    return argparse.Namespace(
        gans=gans, steps=steps, first_steps=steps, kinds=[], stages=[], packs=False
    )


def takes_members(args: argparse.Namespace) -> bool:
    """Whether the sweep takes those of another one."""
    return "merge" in args.kinds or "members" in (args.stages or ())


def run_other(folder: Path, storage: Path) -> None:
    """The sweep whose members the disturbed one takes."""
    file = folder / "other.yaml"
    file.write_text(yaml.safe_dump({**spec(asked(["SNGAN"], 20), None), "name": "other"}))
    command = [sys.executable, "-m", "ensgan", "sweep", str(file), "--address", "none", "--json"]
    subprocess.run([*command, "--storage", str(storage)], check=True, stdout=subprocess.DEVNULL)


class Scene:
    """A cluster, an MLflow server and a driver, each of which can be killed and comes back."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.folder, self.args = folder, args
        self.storage, self.grown, self.grows = folder / "disturbed", 0, False
        self.port = free_port()
        self.sweep = folder / "chaos.yaml"
        self.with_mlflow = "mlflow" in args.kinds or "record" in (args.stages or ())
        if takes_members(args):
            run_other(folder, self.storage)
        self.uri = f"http://127.0.0.1:{self.port}" if self.with_mlflow else None
        self.sweep.write_text(yaml.safe_dump(spec(args, self.uri)))
        self.output = (folder / "driver.log").open("ab")
        self.cluster: Any = None
        self.start_cluster()
        self.mlflow = self.start_mlflow() if self.with_mlflow else None
        self.driver = self.start_driver()

    def start_cluster(self) -> None:
        self.cluster = new_cluster(0)
        self.workers = [self.new_node() for _ in range(2)]

    def new_node(self) -> Any:
        """A worker; on a busy machine one may die before it has begun."""
        for _ in range(3):
            with suppress(Exception):  # Ray raises no class of its own
                if self.args.packs:
                    return self.cluster.add_node(num_cpus=4, num_gpus=1)
                return self.cluster.add_node(num_cpus=1)
        raise SystemExit("no worker node starts: this machine is too busy")

    def start_mlflow(self) -> subprocess.Popen[bytes]:
        database = f"sqlite:///{self.folder / 'mlflow.db'}"
        command = [
            sys.executable,
            *["-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"],
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
        self.said_before = Path(self.output.name).stat().st_size
        return subprocess.Popen(
            [*command, *where, "--allow-open-cluster"],
            stdout=self.output,
            stderr=self.output,
            start_new_session=True,
        )

    def stage(self) -> str:
        """Where the driver is, by the events that it prints."""
        stage = "growth" if self.grows else "opening"
        with Path(self.output.name).open("rb") as log:
            log.seek(self.said_before)
            for line in log:
                if line.startswith(b'{"event": "stage"') and b'"state": "start"' in line:
                    told = str(json.loads(line)["stage"])
                    stage = stage if told == "prepare" else told
        return stage

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
        pack = [other for other in self.beats() if other["pid"] == beat["pid"]]
        of_pack = f", in a pack of {len(pack)}" if len(pack) > 1 else ""
        return f"{beat['gan']} at step {beat['step']}{of_pack}"

    def kill_node(self) -> str:
        node = self.workers.pop(0)
        self.cluster.remove_node(node, allow_graceful=False)
        self.workers.append(self.new_node())
        return "a worker node; a fresh one joined"

    def kill_driver(self) -> str:
        stage = self.stage()
        kill_group(self.driver)
        self.grows = False
        self.driver = self.start_driver()
        return f"the driver in stage {stage}; started again"

    def kill_merge(self) -> str:
        kill_group(self.driver)
        self.driver = self.start_driver()
        time.sleep(random.Random(len(self.beats())).uniform(2, 8))
        return f"the driver that opens the sweep, {self.kill_driver()}"

    def _told(self, number: signal.Signals) -> str | None:
        """A signal that asks the driver to end; None where it has ended by itself meanwhile."""
        if self.driver.poll() is not None:
            return None
        if self.stage() in ("opening", "growth"):
            time.sleep(1)  # Python itself is not up before
        stage = self.stage()
        self.driver.send_signal(number)
        code = self.driver.wait(timeout=120)
        self.grows = False
        self.driver = self.start_driver()
        return f"the driver in stage {stage}: exit code {code}; started again"

    def kill_sigterm(self) -> str | None:
        return self._told(signal.SIGTERM)

    def kill_sighup(self) -> str | None:
        return self._told(signal.SIGHUP)

    def kill_sigint(self) -> str | None:
        return self._told(signal.SIGINT)

    def grow(self) -> None:
        """The sweep has ended: it gets one more snapshot."""
        self.args.steps += self.args.first_steps // SNAPSHOTS
        self.grown, self.grows = self.grown + 1, True
        self.sweep.write_text(yaml.safe_dump(spec(self.args, self.uri)))
        self.driver = self.start_driver()

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


def new_cluster(cpus: int) -> Any:
    """A head on this machine; it and its nodes get more than Ray's half minute to start."""
    asked = services.get_node

    def get_node(*args: Any) -> Any:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with suppress(Exception):  # RuntimeError, or one of Ray's
                return asked(*args)
            time.sleep(2)
        return asked(*args)

    if asked.__module__ == services.__name__:  # the first cluster of this process
        services.get_node = get_node
    return Cluster(initialize_head=True, head_node_args={"num_cpus": cpus})


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
    """Steps of the resume checkpoints and results so far: what a kill cannot take back."""
    stages = ("scores", "search", "select", "evaluate", "privacy", "ensemble")
    results = [p for part in stages for p in scene.storage.glob(f"sweeps/chaos/{part}/*")]
    return sum(int(beat["step"]) // 5 * 5 for beat in scene.beats()) + len(results)


def disturb(scene: Scene, args: argparse.Namespace) -> list[tuple[float, str, str]]:
    """Kill on the schedule until enough are dead or the sweep has ended."""
    chance = random.Random(args.seed)
    begin, reached, kills = time.monotonic(), 0, []
    while len(kills) < args.kills and time.monotonic() - begin < 60 * args.minutes:
        time.sleep(0.05 if args.stages else 0.2)
        code = scene.driver.poll()
        if code is not None:
            if code != 0 or scene.grown >= args.most_growth:
                break
            scene.grow()
        if time.monotonic() - begin > PATIENCE + 120 * len(kills):
            raise SystemExit(f"no progress: see {scene.folder}")
        wanted = args.kinds[len(kills) % len(args.kinds)]
        if args.stages:
            stage = args.stages[len(kills) % len(args.stages)]
            if scene.stage() != stage:
                continue
            wanted = "trial" if stage == "train" else wanted
        elif progress(scene) <= reached:
            continue
        time.sleep(chance.uniform(0, args.pause))
        what = getattr(scene, f"kill_{wanted}")()
        if what is None:
            continue
        reached = progress(scene)
        what += f"; grown {scene.grown} times" if scene.grown else ""
        kills.append((time.monotonic() - begin, wanted, what))
        print(f"{kills[-1][0]:6.1f} s  kill {len(kills):2}  {wanted:7} {what}", flush=True)
    return kills


def hashes(storage: Path) -> dict[str, str]:
    """Results by name: members' hashes, and the choice and the table as texts without times."""
    folder = storage / "sweeps" / "chaos"
    manifest = json.loads((folder / "manifest.json").read_text())
    found = {name: member["sha256"] for name, member in sorted(manifest["members"].items())}
    table = json.loads((folder / manifest["downstream"]).read_text())
    return {**found, "G*": json.dumps(manifest["selected"]), "table": json.dumps(timeless(table))}


OF_TIME = {"seconds", "work", "started", "finished", "stages", "time", "versions", "losses"}
OF_TIME |= {"history", "earlier", "spec"}


def timeless(value: Any) -> Any:
    """A JSON value without what says when and how long."""
    if isinstance(value, Mapping):
        return {k: timeless(v) for k, v in value.items() if k not in OF_TIME}
    return [timeless(part) for part in value] if isinstance(value, list | tuple) else value


def undisturbed(folder: Path, args: argparse.Namespace, grown: int) -> dict[str, str]:
    """The results of a sweep that nobody disturbs and that grows as often."""
    sweep, storage = folder / "undisturbed.yaml", folder / "undisturbed"
    command = [sys.executable, "-m", "ensgan", "sweep", str(sweep), "--address", "none", "--json"]
    if takes_members(args):
        run_other(folder, storage)
    for times in range(grown + 1):
        steps = args.first_steps + times * (args.first_steps // SNAPSHOTS)
        calm = argparse.Namespace(**{**vars(args), "steps": steps, "packs": False})
        sweep.write_text(yaml.safe_dump(spec(calm, None)))
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
    return f"""## {result["title"]}

`{result["command"]}` at commit {result["commit"]}, {result["date"]}, {result["machine"]}.
{len(result["kills"])} kills ({result["kinds"]}), {result["members"]} members,
**{result["lost"]} lost, {result["different"]} different** from an undisturbed run without Ray
(SHA-256 of every member's weights, G*, the table), {result["tracebacks"]} tracebacks. The sweep
grew {result["grown"]} times and ended by itself with exit code {result["exit_code"]}
after {result["seconds"]:.0f} s (undisturbed: {result["undisturbed_seconds"]:.0f} s); its run was in
MLflow at the end: {"yes" if result["recorded"] else "no"}. Losses the driver counted:
{json.dumps(result["losses"])}.

| kill | s | what | |
|---:|---:|---|---|
{kills}
"""


def write_section(page: Path, text: str) -> None:
    """Put a section, whose first line is its title, into the place of the one of that title."""
    head, *sections = (page.read_text() if page.exists() else "").split("\n## ")
    title, new = text.partition("\n")[0], text.removeprefix("## ").rstrip() + "\n"
    kept = [part for part in sections if f"## {part}".partition("\n")[0] != title]
    head = head.rstrip() or "# Chaos: a sweep that is disturbed"
    page.write_text("\n\n## ".join([head, *sorted(p.rstrip() for p in (*kept, new))]) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400, help="of each GAN")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no kill comes later")
    parser.add_argument("--most-growth", type=int, default=8, help="times that it may grow")
    parser.add_argument("--gans", nargs="+", default=GANS)
    parser.add_argument("--kinds", nargs="+", choices=sorted(set(KINDS)), help="in turn")
    parser.add_argument("--stages", nargs="+", choices=["all", *STAGES], help="in turn")
    parser.add_argument("--packs", action="store_true", help="pretended GPUs, shared by GANs")
    parser.add_argument("--pause", type=float, default=2.0, help="most seconds before a kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="write its section of this page")
    parser.add_argument("--folder", type=Path, help="work here [default: a temporary folder]")
    args = parser.parse_args()
    args.stages = STAGES if args.stages == ["all"] else args.stages
    args.kinds = args.kinds or (AIMED if args.stages else KINDS)
    if args.packs:
        os.environ["ENSGAN_REHEARSAL"] = "1"
    folder = args.folder or Path(tempfile.mkdtemp(prefix="ensgan-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    args.first_steps = args.steps
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
    begin = time.monotonic()
    expected = undisturbed(folder, args, scene.grown)
    calm = time.monotonic() - begin
    print(f"undisturbed: {len(expected) - 2} members in {calm:.0f} s", flush=True)
    result: dict[str, Any] = {
        "title": "Kills in every stage" if args.stages else "Kills against a running sweep",
        "command": " ".join(["scripts/chaos", *sys.argv[1:]]),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} CPUs, Python {platform.python_version()}",
        "kills": kills,
        "kinds": ", ".join(f"{n} × {k}" for k, n in Counter(k for _, k, _ in kills).items()),
        "members": len(found) - 2,
        "grown": scene.grown,
        "tracebacks": (folder / "driver.log").read_text(errors="replace").count("Traceback"),
        "lost": len(expected.keys() - found.keys()),
        "different": sum(found[name] != expected[name] for name in expected.keys() & found.keys()),
        "exit_code": code,
        "seconds": seconds,
        "undisturbed_seconds": calm,
        "losses": manifest["losses"],
        "recorded": was_recorded,
    }
    if args.log:
        write_section(args.log, report(result))
    print(json.dumps({**result, "kills": len(kills)}))
    good = code == 0 and not (result["lost"] or result["different"])
    return 0 if good and len(kills) >= args.kills else 1


if __name__ == "__main__":
    sys.exit(main())
