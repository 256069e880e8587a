"""Pure functions over many items as Ray tasks: the pair blocks of a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from ensgan.cluster import session  # sets Ray's environment before the import below

import ray  # isort: skip

from ensgan.errors import EnsganError, InputError

T = TypeVar("T")
R = TypeVar("R")

Mapper: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]

RETRIES = 3
"""How often a task whose worker or node was lost is run again."""


@contextmanager
def task_mapper(address: str, *, cpus: float = 1.0, gpus: float = 0.0) -> Iterator[Mapper]:
    """A ``map`` whose calls run on a cluster, results as they finish.

    Args:
        address: ``local``, ``auto``, or what else :func:`session.ray_session` takes.
        cpus, gpus: what each call reserves; fractions share a GPU.

    Raises:
        InputError: no cluster answers, or none of its nodes has that much.
    """
    for name, amount in (("cpus", cpus), ("gpus", gpus)):
        if amount < 0 or (name == "cpus" and amount == 0):
            raise InputError(f"{name} per task is {amount:g}: it must be above 0")
    with session.ray_session(address):
        _check(cpus, gpus)
        yield partial(spread, cpus=cpus, gpus=gpus)


def spread(
    function: Callable[[T], R], items: Iterable[T], *, cpus: float = 1.0, gpus: float = 0.0
) -> Iterator[R]:
    """Apply a pure function to every item on the cluster; results in the order of finishing.

    No more tasks are handed out than keep the cluster busy, so arguments do not fill its memory.
    Tasks still running when the caller stops are cancelled.

    Raises:
        EnsganError: of a task, as it was raised there, or which task failed or was lost and what
            Ray said of it.
    """
    task = ray.remote(function).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
    rest = iter(items)
    most = 2 + 2 * int(ray.cluster_resources().get("CPU", 1) / cpus)
    running = {task.remote(item): _label(item) for item in islice(rest, most)}
    try:
        while running:
            ready, _ = ray.wait(list(running), num_returns=1)
            for reference in ready:
                result = _result(reference, running.pop(reference))
                running.update((task.remote(item), _label(item)) for item in islice(rest, 1))
                yield result
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _label(item: Any) -> str:
    """What a task is about, where it says so."""
    return str(getattr(item, "label", "a task"))


def _result(reference: Any, label: str) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, EnsganError):
            raise cause from None
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = lines[-1] if lines else type(error).__name__
        raise EnsganError(
            f"{label} failed on the cluster: {said}; what was finished before is kept where the "
            "results go: run the same command again to go on from there"
        ) from error


def _check(cpus: float, gpus: float) -> None:
    """Refuse what no node can ever give: Ray would wait for it in silence."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for resource, amount in (("CPU", cpus), ("GPU", gpus)):
        most = max((node.get(resource, 0.0) for node in nodes), default=0.0)
        if amount > most:
            raise InputError(
                f"a task asks for {amount:g} {resource}, the cluster's largest node has {most:g}: "
                f"lower --{resource.lower()}s-per-task"
            )
