"""Before any training: can every node of the cluster do its part?"""

from __future__ import annotations

import platform
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ensgan.cluster.session import alive_nodes
from ensgan.config import ClusterSpec
from ensgan.errors import ConfigError, last_line
from ensgan.files import sha256_file
from ensgan.sweep.environment import installed
from ensgan.sweep.events import OnEvent, warning
from ensgan.sweep.member_job import MemberJob
from ensgan.sweep.planning.cost import local_gpus, shares_gpus

ANSWER_SECONDS = 180.0
"""Longest wait for answers: a new worker process imports torch first."""
SKEW_SECONDS = 5.0
GPU_SLICE = 0.001
_PACKAGES = ("ensgan", "torch", "ray", "numpy")


@dataclass(frozen=True)
class Question:
    """What every node is asked.

    Attributes:
        folder: the sweep's, on storage that every node must see.
        token: content of the file that the driver wrote there.
        data: the training set as the driver wrote it.
    """

    folder: Path
    token: str
    data: Path


@dataclass(frozen=True)
class Answer:
    """What a node says about itself.

    Attributes:
        token: content of the driver's file, None when it cannot be seen.
        write_error: why the node could not write there; None if it could.
        data: hash of the training set, None when it cannot be read.
        gpu_bytes: memory of its smallest GPU, None without.
        clock: seconds since the epoch.
    """

    token: str | None
    write_error: str | None
    data: str | None
    versions: Mapping[str, str]
    gpu_bytes: int | None
    clock: float


def examine_node(question: Question, node: str, wants_gpu: bool) -> Answer:
    """Run on the node that is asked."""
    folder = question.folder / "preflight"
    token = folder / f"driver-{question.token}"
    write_error = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"node-{node}-{question.token}").write_text(question.token)
    except OSError as error:
        write_error = str(error)
    return Answer(
        token=token.read_text() if token.exists() else None,
        write_error=write_error,
        data=sha256_file(question.data) if question.data.exists() else None,
        versions=own_versions(),
        gpu_bytes=local_gpus()[1] if wants_gpu else None,
        clock=time.time(),
    )


def own_versions() -> dict[str, str]:
    """Versions that must be the same everywhere."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **dict.fromkeys(_PACKAGES, "not installed"), **installed(_PACKAGES)}


def check_nodes(jobs: Sequence[MemberJob], settings: ClusterSpec, on_event: OnEvent) -> int | None:
    """Question every node, and refuse a cluster that cannot do the jobs.

    A single node whose GPU memory does not matter is not questioned.

    Args:
        jobs: what will run.
        settings: what trials get.
        on_event: called with warnings about oddities that are no reason to refuse.

    Returns:
        Memory of the smallest GPU; None if there is none, or nothing was asked.

    Raises:
        ConfigError: with every problem of every node.
    """
    nodes = alive_nodes()
    if len(nodes) < 2 and not shares_gpus(settings):
        return None
    question = Question(jobs[0].scoring.results, uuid.uuid4().hex, jobs[0].training_set)
    folder = question.folder / "preflight"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"driver-{question.token}").write_text(question.token)
    try:
        begin = time.time()
        answers = _ask(nodes, question, wants_gpu=bool(settings.gpus_per_trial))
        problems = []
        data_hash = sha256_file(question.data)
        for node, answer in answers.items():
            seen = (folder / f"node-{node}-{question.token}").exists()
            problems += node_problems(node, answer, question, seen, data_hash)
            if odd := _clock_warning(node, answer, begin):
                on_event(warning(odd))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if problems:
        raise ConfigError("cluster", problems)
    sizes = [answer.gpu_bytes or 0 for answer in answers.values() if isinstance(answer, Answer)]
    smallest = min(filter(None, sizes), default=None)
    if smallest:
        warn_of_memory(jobs, settings, smallest, on_event)
    return smallest


def warn_of_memory(
    jobs: Sequence[MemberJob], settings: ClusterSpec, smallest: int, on_event: OnEvent
) -> None:
    """Warn of jobs that, alone or together, probably do not fit onto the smallest GPU."""
    gpus = settings.gpus_per_trial
    together = 1 if gpus == "auto" or not 0 < gpus < 1 else int(1 / gpus + 1e-9)
    largest = sorted((job.memory_bytes for job in jobs), reverse=True)[:together]
    if len(largest) > 1 and max(largest) <= smallest < sum(largest):
        on_event(
            warning(
                f"cluster.gpus_per_trial {gpus:g} puts {len(largest)} GANs onto a GPU, which will "
                f"need up to {sum(largest) / 2**30:.1f} GB, and the smallest GPU has "
                f"{smallest / 2**30:.1f} GB: some may fail; set it to auto, or lower batch or width"
            )
        )
    for job in jobs:
        if job.memory_bytes > smallest:
            needed, there = job.memory_bytes / 2**30, smallest / 2**30
            on_event(
                warning(
                    f"{job.name} will need about {needed:.1f} GB of GPU memory, the smallest GPU "
                    f"has {there:.1f} GB: it may fail; lower its batch or width"
                )
            )


def _ask(
    nodes: Sequence[Mapping[str, Any]], question: Question, *, wants_gpu: bool
) -> dict[str, Answer | str]:
    """Every node's answer, or why there is none; a node that died meanwhile is left out."""
    waiting: dict[Any, str] = {}
    node_ids: dict[str, str] = {}
    answers: dict[str, Answer | str] = {}
    for node in nodes:
        gpu = wants_gpu and node["Resources"].get("GPU", 0) > 0
        name = str(node["NodeManagerHostname"]) + "-" + str(node["NodeID"])[:6]
        task = ray.remote(examine_node).options(
            name=f"preflight {name}",
            # No CPU, so that a fully occupied node answers too.
            num_cpus=0,
            num_gpus=GPU_SLICE if gpu else 0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )
        waiting[task.remote(question, name, gpu)] = name
        node_ids[name] = node["NodeID"]
    ready, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=ANSWER_SECONDS)
    for reference in ready:
        try:
            answers[waiting[reference]] = ray.get(reference)
        except ray.exceptions.RayError as error:
            answers[waiting[reference]] = last_line(error)
    for reference in late:
        answers[waiting[reference]] = f"no answer within {ANSWER_SECONDS:.0f} s"
    # Ray notices a lost node only after missed heartbeats: it may have been gone when asked.
    alive = {node["NodeID"] for node in alive_nodes()}
    return {
        name: answer
        for name, answer in answers.items()
        if isinstance(answer, Answer) or node_ids[name] in alive
    }


def node_problems(
    node: str,
    answer: Answer | str,
    question: Question,
    seen: bool,
    data: str,
) -> list[str]:
    """One sentence for everything that keeps a node from doing its part.

    Args:
        node: its name.
        answer: what it says, or why there is nothing.
        question: what it was asked.
        seen: the driver sees the file that the node wrote.
        data: hash of the training set as the driver reads it.
    """
    if isinstance(answer, str):
        return [
            f"node {node} cannot run ensgan ({answer}): install the driver's versions there, or "
            "send a runtime environment (docs/cluster.md)"
        ]
    problems = []
    if answer.write_error is not None:
        problems.append(f"node {node} cannot write {question.folder} ({answer.write_error})")
    elif answer.token != question.token or not seen:
        problems.append(
            f"node {node} does not share {question.folder} with the driver: put --storage on a "
            "file system that every node mounts at the same path"
        )
    elif answer.data != data:
        problems.append(f"node {node} reads other training data than the driver at {question.data}")
    for name, expected in own_versions().items():
        installed = answer.versions.get(name, "not installed")
        if installed != expected:
            problems.append(
                f"node {node} has {name} {installed}, the driver {expected}: install the same "
                "version"
            )
    return problems


def _clock_warning(node: str, answer: Answer | str, begin: float) -> str | None:
    """A warning if the node's clock lies outside of the time in which it was questioned."""
    if isinstance(answer, str):
        return None
    skew = max(begin - answer.clock, answer.clock - time.time(), 0.0)
    if skew <= SKEW_SECONDS:
        return None
    return (
        f"the clock of node {node} is {skew:.0f} s off the driver's: times shown will be wrong; "
        "let NTP set it"
    )
