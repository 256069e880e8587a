#!/usr/bin/env python3
"""Run a sweep for an hour on a real Ray cluster under load, and watch every process that stays.

A service answers 64 clients, MLflow's pages and lists are fetched, the sweep trains on the cluster
and records itself, other sweeps run beside it without Ray, and a node joins and leaves. Memory and
file descriptors of the processes that live on are sampled; at the end everything is closed and
whatever process is left is counted.

Exit code: 0 when memory grew by no more than a twentieth after the warm-up, no descriptors
gathered, no answer was a server error, no sweep failed and no process was left; 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import chaos  # first: it settles the environment of Ray and MLflow
import psutil
import yaml

CLIENTS = 64
PAUSE, NODE_SECONDS = 4.0, 600.0
"""Between the requests of a client, and between a node's coming and going."""
WARM_UP = 1 / 6
"""Of the time, before growth counts: ten minutes of an hour."""
MOST_GROWTH, FEW_BYTES, FEW_FILES = 0.05, 2 << 20, 12
"""A twentieth, or what is nothing in a small process; sockets come and go."""
LONG = 1_000_000
"""Steps of the sweep that is watched: more than it gets to."""


class Soak:
    """Everything that runs, and what was seen of it."""

    def __init__(self, folder: Path, minutes: float) -> None:
        self.folder, self.seconds = folder, 60 * minutes
        self.answers: Counter[str] = Counter()
        self.samples: dict[str, list[tuple[float, int, int]]] = defaultdict(list)
        self.over = threading.Event()
        self.seen: set[psutil.Process] = set()
        self.started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        """A process of this Python, its output in a log of its name."""
        log = (self.folder / f"{name}.log").open("ab")
        command = [sys.executable, "-m", *words]
        with log:
            self.started[name] = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder
            )
        return self.started[name]

    def spec(self, name: str, uri: str | None, steps: int) -> str:
        """The file of a small sweep."""
        tree = chaos.spec(chaos.asked(["SNGAN", "ACGAN-Mod"], steps), uri)
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**tree, "name": name}))
        return str(path)

    def sweeps(self, name: str, uri: str | None, steps: int, address: Callable[[], str]) -> None:
        """One sweep after another, each from its start; the last is told to end."""
        file = self.spec(name, uri, steps)
        while not self.over.is_set():
            where = ["--storage", str(self.folder / "runs"), "--address", address(), "--fresh"]
            driver = self.start(name, "ensgan", "sweep", file, *where, "--allow-open-cluster")
            while driver.poll() is None:
                if self.over.wait(0.5):
                    driver.terminate()
                    code = driver.wait(300)
                    self.answers[f"{name} told to end: exit code {code}"] += 1
                    return
            self.answers[f"{name}: exit code {driver.returncode}"] += 1

    def ask(self, url: str, what: str, pause: float, body: bytes | None = None) -> None:
        """Ask again and again, and count what is answered."""
        headers = {"Content-Type": "application/json"}
        while not self.over.wait(pause):
            try:
                request = urllib.request.Request(url, data=body, headers=headers)
                with urllib.request.urlopen(request, timeout=120) as reply:
                    reply.read()
                    self.answers[f"{what}: {reply.status}"] += 1
            except urllib.error.HTTPError as error:
                self.answers[f"{what}: {error.code}"] += 1
            except OSError as error:
                if not self.over.is_set():
                    self.answers[f"{what}: {type(error).__name__}"] += 1

    def sample(self, process: psutil.Process, name: str, at: float) -> None:
        """Memory and descriptors of a process, if it is still there."""
        with suppress(psutil.Error):
            memory = process.memory_info().rss
            if memory:  # a node that was taken away holds none until its end is noticed
                self.samples[name].append((at, memory, process.num_fds()))


def run(folder: Path, minutes: float) -> Soak:
    """Everything for so long."""
    soak, port, service = Soak(folder, minutes), chaos.free_port(), chaos.free_port()
    first = soak.spec("first", None, 10)
    storage = ["--storage", str(folder / "runs")]
    made = soak.start("first", "ensgan", "sweep", first, "--address", "none", *storage)
    if made.wait() != 0:
        raise SystemExit(f"the first sweep failed: see {folder}/first.log")
    cluster = chaos.new_cluster(1)
    uri = f"http://127.0.0.1:{port}"
    database = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    files = ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    soak.start("MLflow", "mlflow", "server", "--port", str(port), *database, *files)
    (ensemble,) = (folder / "runs/sweeps/first/ensemble").iterdir()
    soak.start("service", "ensgan", "serve", str(ensemble), "--port", str(service))
    body = json.dumps({"n": 4, "seed": 1}).encode()
    search = json.dumps({"experiment_ids": ["1"], "max_results": 50}).encode()
    listed = f"{uri}/api/2.0/mlflow/runs/search"
    wait_for(f"http://127.0.0.1:{service}/health", f"{uri}/health")
    work: list[threading.Thread] = [
        *(
            threading.Thread(
                target=soak.ask,
                args=(f"http://127.0.0.1:{service}/sample", "service", PAUSE, body),
            )
            for _ in range(CLIENTS)
        ),
        threading.Thread(target=soak.ask, args=(uri, "MLflow's pages", 1.0)),
        threading.Thread(target=soak.ask, args=(listed, "MLflow's lists", 1.0, search)),
        threading.Thread(target=soak.sweeps, args=("soak", uri, LONG, lambda: cluster.address)),
        threading.Thread(target=soak.sweeps, args=("second", None, 20, lambda: "none")),
    ]
    for thread in work:
        thread.start()
    watch(soak, cluster)
    soak.over.set()
    for thread in work:
        thread.join(400)
    for process in soak.started.values():
        chaos.kill_group(process) if process.poll() is None else process.wait()
    cluster.shutdown()
    time.sleep(5)
    # By who began them: others on this machine may use Ray, too.
    zombie = psutil.STATUS_ZOMBIE
    left = [each for each in soak.seen if each.is_running() and each.status() != zombie]
    for process in left:
        with suppress(psutil.Error):
            print(f"left: {process.pid} {' '.join(process.cmdline())}")
    soak.answers["processes left"] = len(left)
    return soak


def watch(soak: Soak, cluster: Any) -> None:
    """Sample until the time is over; a node joins and leaves meanwhile."""
    begin, turn, node = time.monotonic(), 0.0, None
    while (at := time.monotonic() - begin) < soak.seconds:
        if at - turn > NODE_SECONDS:
            turn = at
            what = "nodes added" if node is None else "nodes taken away"
            try:
                node = cluster.add_node(num_cpus=1) if node is None else cluster.remove_node(node)
            except Exception:  # Ray raises no class of its own where the machine is too busy
                what = "nodes that did not start in Ray's half minute"
            soak.answers[what] += 1
        for name in ("MLflow", "service", "soak"):
            with suppress(psutil.Error, KeyError):  # a thread may not have begun
                process = psutil.Process(soak.started[name].pid)
                for index, part in enumerate([process, *process.children(recursive=True)]):
                    soak.sample(part, f"{name} {index}" if index else name, at)
        for process in psutil.Process().children(recursive=True):
            soak.seen.add(process)
            with suppress(psutil.Error):
                if process.name().startswith(("gcs_server", "raylet", "ray::")):
                    soak.sample(process, f"{process.name()} {process.pid}", at)
        soak.sample(psutil.Process(), "this script", at)
        time.sleep(2)


def wait_for(*addresses: str) -> None:
    for address in addresses:
        for _ in range(600):
            with suppress(OSError):
                urllib.request.urlopen(address, timeout=5)
                break
            time.sleep(0.5)
        else:
            raise SystemExit(f"nobody answers at {address}")


def rows(soak: Soak) -> list[tuple[str, list[float], int, int, bool]]:
    """Per process that lived for all of it: MB in each sixth of the time after the warm-up, and
    descriptors in the first and the last."""
    found = []
    for name, samples in soak.samples.items():
        warm = [s for s in samples if s[0] >= WARM_UP * soak.seconds]
        lived = samples[0][0] < WARM_UP * soak.seconds and samples[-1][0] > 0.9 * soak.seconds
        if not lived or len(warm) < 10:
            continue
        sixths = [warm[i * len(warm) // 6 : (i + 1) * len(warm) // 6] for i in range(6)]
        memory = [statistics.median(s[1] for s in sixth) for sixth in sixths]
        before, after = (round(statistics.median(s[2] for s in sixths[i])) for i in (0, -1))
        most = max(MOST_GROWTH * memory[0], FEW_BYTES)
        flat = memory[-1] - memory[0] <= most and after - before <= FEW_FILES
        found.append((name, [each / 2**20 for each in memory], before, after, flat))
    return found


def problems(soak: Soak) -> list[str]:
    """What is not as it should be."""
    found = [f"{row[0]} grew" for row in rows(soak) if not row[-1]]
    for answer, count in soak.answers.items():
        what, _, how = answer.rpartition(": ")
        bad = how != "exit code 0" if "exit" in how else not how.startswith("2")
        bad = bad and "told to end" not in what
        if (what and bad) or (answer == "processes left" and count):
            found.append(f"{answer}: {count}")
    return found


def report(soak: Soak, command: str) -> str:
    """A section of a page."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
        cwd=Path(__file__).parent,
    ).stdout.strip()  # fmt: skip
    lines = [
        "## A long run under load\n",
        f"`{command}` at commit {commit}, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} shared "
        f"CPUs, Python {platform.python_version()}; the first sixth is warm-up.\n",
        "| process | MB in each sixth of the rest | grown | files in first | in last | flat |",
        "|---|---|---:|---:|---:|---|",
    ]
    for name, memory, before, after, flat in rows(soak):
        yes, grown = "yes" if flat else "NO", f"{memory[-1] / memory[0] - 1:+.1%}"
        sizes = ", ".join(f"{each:.1f}" for each in memory)
        lines.append(f"| {name} | {sizes} | {grown} | {before} | {after} | {yes} |")
    lines += ["", "| what was done | times |", "|---|---:|"]
    lines += [f"| {answer} | {count:,} |" for answer, count in sorted(soak.answers.items())]
    found = problems(soak)
    return "\n".join([*lines, "", "Flat." if not found else f"Not flat: {'; '.join(found)}.", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--log", type=Path, help="write its section of this page")
    parser.add_argument("--folder", type=Path, help="work here [default: a temporary folder]")
    args = parser.parse_args()
    folder = (args.folder or Path(tempfile.mkdtemp(prefix="ensgan-soak-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    soak = run(folder, args.minutes)
    page = report(soak, " ".join(["scripts/chaos soak", *sys.argv[1:]]))
    print(page)
    if args.log:
        chaos.write_section(args.log, page)
    return 1 if problems(soak) else 0


if __name__ == "__main__":
    sys.exit(main())
