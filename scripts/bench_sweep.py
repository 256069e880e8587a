"""The scheduling of a sweep: slots kept busy, makespan on many GPUs, memory of the driver.

``efficiency`` runs short real trials through the Ray executor: (seconds that trials computed) /
(wall seconds × slots). ``simulation`` replays the executor's own queue on paper (a discrete
simulation; the greedy stand-in for Tune takes the next order whenever a GPU is free) and compares
its makespan with the lower bound max(longest trial, total / GPUs). ``driver`` sends many trials,
already trained, through the executor and reads the driver's peak memory. ``planning`` names, checks
and orders many configurations of ``train.vary``.
"""

from __future__ import annotations

import argparse
import heapq
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

SPEC: dict[str, Any] = {
    "name": "bench",
    "dataset": {"name": "phantom", "options": {"n_train": 160, "n_val": 60, "n_test": 60}},
    "train": {
        "gans": ["SNGAN", "SAGAN"],  # a sweep needs two members; the first row is trained
        "snapshots": 1,
        "width": 0.03125,
        "batch": 8,
        "d_updates": 1,
    },
    "evaluate": {"strategies": ["real", "selected"]},
}
COPIES = 5
"""Of each of the 22 rows: 110 trials."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", type=int, default=22, help="short trials for the efficiency")
    parser.add_argument("--steps", type=int, default=120, help="of each short trial")
    parser.add_argument("--gpus", type=int, default=64, help="of the simulated cluster")
    parser.add_argument(
        "--many", type=int, default=1000, help="trials of the driver and of the planning"
    )


def run(args: argparse.Namespace) -> dict[str, object]:
    return {
        "efficiency": apart(efficiency, args.trials, args.steps),
        "simulation": apart(simulation, args.gpus),
        "driver": apart(driver_memory, args.many),
        "planning": apart(planning, args.many),
    }


def apart(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run in a process of its own, so that peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def make_jobs(folder: Path, count: int, steps: int) -> list[Any]:
    """Jobs of one GAN in as many seeds."""
    from ensgan.config import parse_spec
    from ensgan.sweep.folder import SweepFolder
    from ensgan.sweep.inputs import write_inputs
    from ensgan.sweep.resolving import resolve
    from ensgan.sweep.training_stage import member_jobs

    train = {**SPEC["train"], "steps": steps, "vary": {"seed": list(range(count))}}
    resolved = resolve(parse_spec({**SPEC, "train": train}), many=True)
    jobs = member_jobs(resolved, write_inputs(resolved, SweepFolder(folder)))
    return [job for job in jobs if job.name.startswith(SPEC["train"]["gans"][0])]


def planning(configurations: int) -> dict[str, Any]:
    """Reading, naming, checking, ordering: all that a sweep does before it computes anything."""
    from ensgan.cluster.trial_queue import trial_requests
    from ensgan.config import parse_spec
    from ensgan.sweep.folder import SweepFolder
    from ensgan.sweep.inputs import write_inputs
    from ensgan.sweep.planning.sweep_file import known_names
    from ensgan.sweep.resolving import resolve
    from ensgan.sweep.training_stage import member_jobs

    names, rates = known_names(), [i / 10 for i in range(1, 11)]
    vary = {"seed": list(range(configurations // 20)), "learning_rate": rates}
    tree = {**SPEC, "train": {**SPEC["train"], "steps": 100, "vary": vary}}
    with tempfile.TemporaryDirectory(prefix="ensgan-bench-") as name:
        begin = time.perf_counter()
        spec = parse_spec(tree, known=names)
        resolved = resolve(spec, many=True)
        named = time.perf_counter()
        inputs = write_inputs(resolved, SweepFolder(Path(name)))
        written = time.perf_counter()
        requests = trial_requests(member_jobs(resolved, inputs), spec.cluster, None)
        planned = time.perf_counter()
    return {
        "configurations": len(requests),
        "naming_and_checking_seconds": named - begin,
        "planning_seconds": planned - written,
    }


def efficiency(trials: int, steps: int) -> dict[str, Any]:
    from ensgan.cluster.executor import RayExecutor
    from ensgan.cluster.session import ray_session
    from ensgan.config import ClusterSpec

    work: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="ensgan-bench-") as name:
        jobs = make_jobs(Path(name), trials, steps)
        begin = time.time()
        with ray_session():
            joined = time.time()
            executor = RayExecutor(ClusterSpec(), Path(name) / "tune")
            failed = executor.grow(
                jobs,
                on_member=lambda result: work.extend(result.work),
                on_event=lambda event: None,
            )
            wall = time.time() - joined
            slots = executor.slots
    assert not failed and len(work) >= trials, failed
    computed = sum(end - start for start, end in work)
    steady = max(end for _, end in work) - min(start for start, _ in work)
    return {
        "trials": trials,
        "slots": slots,
        "seconds_a_trial": computed / trials,
        "ray_start_seconds": joined - begin,
        "wall_seconds": wall,
        "efficiency": computed / (wall * slots),
        "efficiency_after_the_first_start": computed / (steady * slots),
    }


def simulation(gpus: int) -> dict[str, Any]:
    from ensgan import zoo
    from ensgan.cluster.trial_queue import trial_requests
    from ensgan.config import ClusterSpec
    from ensgan.sweep.planning.cost import with_costs
    from ensgan.sweep.planning.measured import Measured
    from ensgan.types import ImageShape

    with tempfile.TemporaryDirectory(prefix="ensgan-bench-") as name:
        base = make_jobs(Path(name), 1, 100)[0]
        rows = [replace(base, name=gan, row=zoo.get(gan).to_json()) for gan in zoo.names()]
        rows = with_costs(rows, ImageShape(1, 32), Measured(Path(name) / "none"), memory=False)
    jobs = [replace(job, name=f"{job.name}/{i}") for job in rows for i in range(COPIES)]
    lengths = {job.name: job.effort for job in jobs}
    requests = trial_requests(jobs, ClusterSpec(gpus_per_trial=1.0), None)
    queue = [request.gan for request in requests]
    bound = max(max(lengths.values()), sum(lengths.values()) / gpus)
    return {
        "trials": len(jobs),
        "gpus": gpus,
        "lengths": "estimated from the rows' networks",
        "makespan_over_bound": makespan([lengths[gan] for gan in queue], gpus) / bound,
        "spec_order_over_bound": makespan([lengths[job.name] for job in jobs], gpus) / bound,
    }


def makespan(lengths: Sequence[float], gpus: int) -> float:
    """The end of the last trial when each free GPU takes the next of the queue."""
    ends = [0.0] * gpus
    for length in lengths:
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)


def driver_memory(trials: int) -> dict[str, Any]:
    import shutil

    from ensgan.cluster.executor import RayExecutor
    from ensgan.cluster.session import ray_session
    from ensgan.config import ClusterSpec
    from ensgan.sweep.events import ignore
    from ensgan.sweep.executor import grow_here

    seen: list[str] = []
    with tempfile.TemporaryDirectory(prefix="ensgan-bench-") as name:
        first = make_jobs(Path(name), 1, 2)[0]
        list(grow_here(first, ignore))
        jobs = [
            replace(first, name=f"trial-{i}", folder=first.folder.with_name(str(i)))
            for i in range(trials)
        ]
        for job in jobs[1:]:
            shutil.copytree(first.folder, job.folder)
        begin = time.time()
        with ray_session():
            failed = RayExecutor(ClusterSpec(), Path(name) / "tune").grow(
                jobs, on_member=lambda result: seen.append(result.name), on_event=ignore
            )
        wall = time.time() - begin
    # All copies hold the same member, which counts once.
    assert not failed and len(seen) == 1, failed
    return {
        "trials": trials,
        "wall_seconds": wall,
        "seconds_a_trial": wall / trials,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def show(result: dict[str, Any]) -> None:
    for part in ("efficiency", "simulation", "driver", "planning"):
        print(part)
        for key, value in result[part].items():
            print(f"  {key:34} {value:.3f}" if isinstance(value, float) else f"  {key:34} {value}")
