"""Before any training: can every node of the cluster do its part?"""

from __future__ import annotations

import importlib.metadata
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

from ensgan.errors import ConfigError, last_line
from ensgan.files import sha256_file
from ensgan.sweep.events import Event, OnEvent
from ensgan.sweep.member_job import MemberJob

ANSWER_SECONDS = 180.0
"""A worker process of a cold node imports torch first."""
SKEW_SECONDS = 5.0
GPU_SLICE = 0.001
_PACKAGES = ("ensgan", "torch", "ray", "numpy")


@dataclass(frozen=True)
class Question:
    """What every node is asked.

    Attributes:
        folder: the sweep's, on storage that every node must see.
        token: content of the driver's file there.
        data: the training set as the driver wrote it.
    """

    folder: Path
    token: str
    data: Path


@dataclass(frozen=True)
class Answer:
    """What a node says about itself.

    Attributes:
        read: content of the driver's file, None when it cannot be seen.
        wrote: why the node could not write there, None when it could.
        data: hash of the training set, None when it cannot be read.
        gpu_bytes: memory of its smallest GPU, None without.
        clock: seconds since the epoch.
    """

    read: str | None
    wrote: str | None
    data: str | None
    versions: Mapping[str, str]
    free_bytes: int
    gpu_bytes: int | None
    clock: float


def answer(question: Question, node: str, wants_gpu: bool) -> Answer:
    """Run on the node that is asked."""
    folder = question.folder / "preflight"
    token = folder / f"driver-{question.token}"
    wrote = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"node-{node}-{question.token}").write_text(question.token)
    except OSError as error:
        wrote = str(error)
    return Answer(
        read=token.read_text() if token.exists() else None,
        wrote=wrote,
        data=sha256_file(question.data) if question.data.exists() else None,
        versions=own_versions(),
        free_bytes=shutil.disk_usage(folder).free if folder.exists() else 0,
        gpu_bytes=_gpu_bytes() if wants_gpu else None,
        clock=time.time(),
    )


def own_versions() -> dict[str, str]:
    """Versions that must be the same everywhere."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _gpu_bytes() -> int | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return min(
        int(torch.cuda.get_device_properties(i).total_memory)
        for i in range(torch.cuda.device_count())
    )


def check_nodes(
    jobs: Sequence[MemberJob], needed_bytes: int, *, wants_gpu: bool, on_event: OnEvent
) -> int | None:
    """Ask every node, and refuse a cluster that cannot do the jobs.

    Args:
        jobs: what will run.
        needed_bytes: of disk that the sweep will still write.
        wants_gpu: the jobs run on GPUs.
        on_event: told about what is odd but no reason to refuse.

    Returns:
        Memory of the smallest GPU, None when nobody has one.

    Raises:
        ConfigError: with every problem of every node.
    """
    question = Question(jobs[0].results, uuid.uuid4().hex, jobs[0].training_set)
    folder = question.folder / "preflight"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"driver-{question.token}").write_text(question.token)
    try:
        begin = time.time()
        answers = _ask(question, wants_gpu)
        problems = []
        for node, said in answers.items():
            seen = (folder / f"node-{node}-{question.token}").exists()
            problems += node_problems(
                node, said, question, seen, needed_bytes, sha256_file(question.data)
            )
            warn = _clock_warning(node, said, begin)
            if warn:
                on_event(Event("warning", {"message": warn}))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if problems:
        raise ConfigError("cluster", problems)
    sizes = [said.gpu_bytes for said in answers.values() if isinstance(said, Answer)]
    known = [size for size in sizes if size]
    smallest = min(known, default=None)
    for job in jobs:
        if smallest and job.memory_bytes > smallest:
            message = (
                f"{job.name} will need about {job.memory_bytes / 2**30:.1f} GB of GPU memory, the "
                f"smallest GPU has {smallest / 2**30:.1f} GB: it may fail; lower its batch or width"
            )
            on_event(Event("warning", {"message": message}))
    return smallest


def _ask(question: Question, wants_gpu: bool) -> dict[str, Answer | str]:
    """Every node's answer, or why there is none; a node that died meanwhile is left out."""
    waiting: dict[Any, str] = {}
    ids: dict[str, str] = {}
    answers: dict[str, Answer | str] = {}
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        gpu = wants_gpu and node["Resources"].get("GPU", 0) > 0
        name = str(node["NodeManagerHostname"]) + "-" + str(node["NodeID"])[:6]
        task = ray.remote(answer).options(
            num_cpus=0,
            num_gpus=GPU_SLICE if gpu else 0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )
        waiting[task.remote(question, name, gpu)] = name
        ids[name] = node["NodeID"]
    ready, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=ANSWER_SECONDS)
    for reference in ready:
        try:
            answers[waiting[reference]] = ray.get(reference)
        except ray.exceptions.RayError as error:
            answers[waiting[reference]] = last_line(error)
    for reference in late:
        answers[waiting[reference]] = f"no answer within {ANSWER_SECONDS:.0f} s"
    # Ray notices a lost node only after missed heartbeats: it may have been gone when asked.
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    return {
        name: said
        for name, said in answers.items()
        if isinstance(said, Answer) or ids[name] in alive
    }


def node_problems(
    node: str,
    said: Answer | str,
    question: Question,
    seen: bool,
    needed_bytes: int,
    data: str,
) -> list[str]:
    """One sentence for everything that keeps a node from doing its part.

    Args:
        node: its name.
        said: its answer, or why there is none.
        question: what it was asked.
        seen: the driver sees the file that the node wrote.
        needed_bytes: of disk.
        data: hash of the training set as the driver reads it.
    """
    if isinstance(said, str):
        return [
            f"node {node} cannot run ensgan ({said}): install the driver's versions there, or send "
            "a runtime environment (docs/cluster.md)"
        ]
    found = []
    if said.wrote is not None:
        found.append(f"node {node} cannot write {question.folder} ({said.wrote})")
    elif said.read != question.token or not seen:
        found.append(
            f"node {node} does not share {question.folder} with the driver: put --storage on a "
            "file system that every node mounts at the same path"
        )
    elif said.data != data:
        found.append(f"node {node} reads other training data than the driver at {question.data}")
    elif said.free_bytes < needed_bytes:
        found.append(
            f"node {node} has {said.free_bytes / 2**20:,.0f} MB free at {question.folder}, the "
            f"sweep needs {needed_bytes / 2**20:,.0f} MB more"
        )
    for name, own in own_versions().items():
        theirs = said.versions.get(name, "not installed")
        if theirs != own:
            found.append(
                f"node {node} has {name} {theirs}, the driver {own}: install the same version"
            )
    return found


def _clock_warning(node: str, said: Answer | str, begin: float) -> str | None:
    """The node's clock is outside of the time that the question took."""
    if isinstance(said, str):
        return None
    skew = max(begin - said.clock, said.clock - time.time(), 0.0)
    if skew <= SKEW_SECONDS:
        return None
    return (
        f"the clock of node {node} is {skew:.0f} s off the driver's: times shown will be wrong; "
        "let NTP set it"
    )


def needs_asking(wants_gpu_memory: bool) -> bool:
    """Whether there is more than this process knows itself."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return wants_gpu_memory or len(nodes) > 1
