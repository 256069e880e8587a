"""Recording a sweep, listing many, pulling an ensemble, and the first image from it."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--members", type=int, default=110, help="runs below a sweep")
    parser.add_argument("--sweeps", type=int, default=50, help="sweeps in the listed store")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=float, default=1.0, help="of the pulled generators")


def run(args: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="ensgan-bench-") as name:
        folder = Path(name)
        recording = record_sweep(folder / "record", args.members)
        return {
            "members": args.members,
            "sweeps": args.sweeps,
            "repeats": args.repeats,
            "load_average": os.getloadavg()[0],
            **recording,
            **list_runs(folder / "record", args),
            **pull_ensemble(folder / "pull", args),
            **first_sample(folder / "nano", args.repeats),
        }


def record_sweep(storage: Path, members: int) -> dict[str, object]:
    from ensgan.store import open_store

    picture = storage / "grid.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(np.random.default_rng(0).bytes(40_000))
    store = open_store(storage=storage)
    begin = time.perf_counter()
    store.prepare()
    prepared, cpu = time.perf_counter(), time.process_time()
    parent = store.create_run(
        "sweep", kind="sweep", params={"dataset": "phantom", "members": members, "seed": 0}
    )
    for index in range(members):
        child = store.create_run(
            f"GAN{index}",
            kind="gan",
            parent=parent,
            params={"gan": f"GAN{index}", "steps": 100_000, "width": 1.0},
            tags={"ensgan.gan": f"GAN{index}"},
        )
        names = ("loss_g", "loss_d", "density", "coverage", "intra_d")
        store.log_history(child, [(step, dict.fromkeys(names, 0.5)) for step in range(1, 6)])
        store.log_file(child, picture)
        store.finish(child)
    store.log_metrics(parent, {"intra_d": 0.8, "inter_d": 0.3})
    store.set_tags(parent, {"ensgan.selected": "GAN0@1,GAN1@1"})
    store.finish(parent)
    done = time.perf_counter()
    return {
        "prepare_seconds": prepared - begin,
        "record_seconds": done - prepared,
        "record_cpu_seconds": time.process_time() - cpu,
        "record_seconds_a_member": (done - prepared) / members,
    }


def list_runs(storage: Path, args: argparse.Namespace) -> dict[str, object]:
    database = storage / "mlflow.db"
    for _ in range(args.sweeps - 1):
        copy_sweep(database, args.members + 1)
    command = [sys.executable, "-m", "ensgan", "runs", "--json", "--storage", str(storage)]
    peer = (
        "from mlflow.tracking import MlflowClient\n"
        f"client = MlflowClient(tracking_uri='sqlite:///{database}')\n"
        "ids = [e.experiment_id for e in client.search_experiments()]\n"
        "found = client.search_runs(ids, \"tags.`ensgan.kind` = 'sweep'\", max_results=1000)\n"
        "print(len(found))\n"
    )

    def ours() -> None:
        output = subprocess.run(command, check=True, capture_output=True).stdout
        assert len(json.loads(output)["runs"]) == args.sweeps

    def theirs() -> None:
        output = subprocess.run(
            [sys.executable, "-c", peer], check=True, capture_output=True, text=True
        ).stdout
        assert int(output.split()[-1]) == args.sweeps

    ours_seconds, their_seconds = alternate(ours, theirs, args.repeats)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "runs_command_cpu_seconds": cpu,
        "listed_runs": args.sweeps * (args.members + 1),
        "runs_command_seconds": ours_seconds,
        "mlflow_search_seconds": their_seconds,
        "runs_command_ratio": ours_seconds / their_seconds,
    }


def copy_sweep(database: Path, count: int) -> None:
    """Repeat the rows of the first ``count`` runs under new run IDs."""
    with sqlite3.connect(database) as connection:
        first = connection.execute("SELECT run_uuid FROM runs ORDER BY rowid LIMIT ?", [count])
        ids = [row[0] for row in first]
        fresh = {old: uuid.uuid4().hex for old in ids}
        marks = ",".join("?" * len(ids))
        for table in ("runs", "tags", "params", "latest_metrics", "metrics"):
            rows = connection.execute(f"SELECT * FROM {table} WHERE run_uuid IN ({marks})", ids)
            columns = [column[0] for column in rows.description]
            place = columns.index("run_uuid")
            copied = []
            for row in rows.fetchall():
                values = [fresh.get(value, value) for value in row]
                values[place] = fresh[row[place]]
                copied.append(values)
            connection.executemany(
                f"INSERT INTO {table} ({','.join(columns)}) "
                f"VALUES ({','.join('?' * len(columns))})",
                copied,
            )
    connection.close()


def make_ensemble(folder: Path, width: float, count: int = 10) -> Path:
    from ensgan import zoo
    from ensgan.ensemble import MemberSource, write_ensemble
    from ensgan.types import ImageShape

    shape = ImageShape(1, 32)
    spec = zoo.get("SNGAN").scaled(width)
    sources = []
    for index in range(count):
        path = folder / f"{index}.safetensors"
        zoo.save_weights(zoo.build_generator(spec, shape, 2, index).state_dict(), path)
        sources.append(MemberSource(f"SNGAN@{index + 1}", 1.0, path, spec))
    return write_ensemble(
        folder / "ensemble",
        members=sources,
        shape=shape,
        class_names=["normal", "pneumonia"],
        class_shares=[0.5, 0.5],
        metrics={},
        dataset={"name": "phantom"},
        extractor={"name": "random"},
        provenance={},
        licences=[],
    )


def pull_ensemble(folder: Path, args: argparse.Namespace) -> dict[str, object]:
    from ensgan.ensemble import pull
    from ensgan.files import sha256_file
    from ensgan.store import open_store

    source = make_ensemble(folder, args.width)
    store = open_store(storage=folder / "storage")
    run_id = store.create_run("sweep", kind="sweep")
    store.log_folder(run_id, source, "ensemble")
    stored = next((folder / "storage" / "artifacts").glob("*/artifacts/ensemble"))

    def ours() -> None:
        shutil.rmtree(folder / "pulled", ignore_errors=True)
        pull(store, run_id, folder / "pulled")

    def copying() -> None:
        shutil.rmtree(folder / "copied", ignore_errors=True)
        shutil.copytree(stored, folder / "copied", copy_function=shutil.copyfile)
        for path in (folder / "copied").rglob("*"):
            if path.is_file():
                sha256_file(path)

    ours(), copying()
    ours_seconds, copy_seconds = alternate(ours, copying, args.repeats)
    size = sum(path.stat().st_size for path in stored.rglob("*") if path.is_file())
    return {
        "pull_bytes": size,
        "pull_seconds": ours_seconds,
        "copy_and_hash_seconds": copy_seconds,
        "pull_ratio": ours_seconds / copy_seconds,
    }


def first_sample(folder: Path, repeats: int) -> dict[str, object]:
    from ensgan.ensemble import load_ensemble

    source = make_ensemble(folder, 0.125)
    opening, sampling = [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        ensemble = load_ensemble(source)
        opened = time.perf_counter()
        ensemble.sample(64)
        opening.append(opened - begin)
        sampling.append(time.perf_counter() - opened)
    return {
        "nano_load_seconds": statistics.median(opening),
        "nano_first_64_images_seconds": statistics.median(sampling),
    }


def alternate(
    ours: Callable[[], None], theirs: Callable[[], None], repeats: int
) -> tuple[float, float]:
    """Median seconds of both, run in turn so that a busy machine slows both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, taken in zip((ours, theirs), seconds, strict=True):
            begin = time.perf_counter()
            function()
            taken.append(time.perf_counter() - begin)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def show(result: dict[str, object]) -> None:
    for key, value in result.items():
        print(f"{key:32} {value:.3f}" if isinstance(value, float) else f"{key:32} {value}")
