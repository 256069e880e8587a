"""Pure functions over many items on Ray: tasks on CPUs, streams of calls on GPUs; their needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

import ray

from ensgan.cluster.session import node_resources
from ensgan.errors import EnsganError, InputError, last_line
from ensgan.sweep.executor import Needs
from ensgan.sweep.planning.cost import slots_of

T = TypeVar("T")
R = TypeVar("R")
TASK_RETRIES = 3
"""How often an item whose process or node was lost is run again."""
PATIENCE = 5.0
"""Seconds without a free GPU after which work is reported as waiting."""


class _Stream:
    """A process that keeps its share of a GPU and is handed one item after another.

    CUDA sees for good the card that it saw first, so Ray ends the process of a task with a GPU
    after that task: each would import torch and open the card anew, which takes seconds.
    """

    def __init__(self, function: Callable[[Any], Any], share: float) -> None:
        self.function = function
        if share < 1:
            from ensgan.cluster.trainable import confine  # imports torch

            confine(share)

    def begin(self) -> None:
        """Returns once the process has its GPU."""

    def run(self, item: Any) -> Any:
        return self.function(item)


@dataclass(frozen=True)
class Tasks:
    """Runs pure functions over many items in the Ray session.

    Attributes:
        needs: what each call reserves.
        slots: calls at once.
        of: the sweep, for the names of the tasks.
        on_wait: told when nothing can run because other work holds the GPUs, and when that ends.
    """

    needs: Needs
    slots: int
    of: str = ""
    on_wait: Callable[[bool], object] = lambda waits: None

    @classmethod
    def asked(cls, *, cpus: float, gpus: float | None) -> Tasks:
        """What a command asks for.

        Args:
            cpus, gpus: what each call reserves; fractions share a GPU. None: a whole GPU where the
                cluster has any.

        Raises:
            InputError: no node of the cluster has that much.
        """
        nodes = node_resources()
        needs = reserved(Needs(cpus, 1.0), nodes) if gpus is None else Needs(cpus, gpus)
        check_fits("a task", needs, nodes, "lower --{}s-per-task")
        return cls(needs, task_slots(needs, nodes))

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results as they finish, in any order; the first error ends it."""
        for _, outcome in self.outcomes(function, items):
            if isinstance(outcome, EnsganError):
                raise outcome
            yield outcome

    def outcomes(
        self, function: Callable[[T], R], items: Iterable[T]
    ) -> Iterator[tuple[int, R | EnsganError]]:
        """The number of each item with its result or error, as they finish.

        No more are handed out than keep the cluster busy, so that arguments do not fill its memory.
        What still runs when the caller stops reading ends: on GPUs at once, on CPUs with the
        session.
        """
        run = self._on_gpus if self.needs.gpus else self._on_cpus
        return run(function, items)

    def _on_cpus(
        self, function: Callable[[T], R], items: Iterable[T]
    ) -> Iterator[tuple[int, R | EnsganError]]:
        """Every item is a task.

        Tasks are never cancelled: with Ray 2.60, cancelling one that is about to begin aborts the
        whole driver ("Check failed … Tried to complete task that was not pending").
        """
        task = ray.remote(lambda item: function(item))  # Ray takes no other callable objects
        options = {**self._reserved, "max_retries": TASK_RETRIES}
        if any(node.get("GPU") for node in node_resources()):
            # Ray lets a task that reserves no GPU see all of them, but others have reserved those.
            options["runtime_env"] = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
        rest = iter(enumerate(items))
        running: dict[Any, tuple[int, str]] = {}

        def submit(count: int) -> None:
            for number, item in islice(rest, count):
                label = self._label(function, item)
                running[task.options(name=label, **options).remote(item)] = (number, label)

        submit(2 * (1 + self.slots))
        while running:
            (reference,), _ = ray.wait(list(running), num_returns=1)
            number, label = running.pop(reference)
            submit(1)
            yield number, _outcome(reference, label)

    def _on_gpus(
        self, function: Callable[[T], R], items: Iterable[T]
    ) -> Iterator[tuple[int, R | EnsganError]]:
        """As many streams as there are shares of GPUs; each gets its next item when it is free.

        A stream whose GPU is busy with other work begins when that ends; the others do not wait.
        """
        kind = ray.remote(_Stream).options(
            **self._reserved, max_restarts=-1, max_task_retries=TASK_RETRIES
        )
        left = list(enumerate(items))[::-1]
        streams = [kind.remote(function, self.needs.gpus) for _ in left[: self.slots]]
        name = self._titled("take a GPU")
        starting = {stream.begin.options(name=name).remote(): stream for stream in streams}
        running: dict[Any, tuple[Any, int, str]] = {}
        waits = False
        try:
            while left or running:
                patience = None if running or waits else PATIENCE
                ready, _ = ray.wait([*running, *starting], num_returns=1, timeout=patience)
                if waits != (not ready):
                    waits = not ready
                    self.on_wait(waits)
                if waits:
                    continue
                (reference,) = ready
                if reference in starting:
                    stream, done = starting.pop(reference), None
                    begun = _outcome(reference, "starting a process on a GPU")
                    if isinstance(begun, EnsganError):
                        raise begun
                else:
                    stream, number, label = running.pop(reference)
                    done = number, _outcome(reference, label)
                if left:
                    number, item = left.pop()
                    label = self._label(function, item)
                    running[stream.run.options(name=label).remote(item)] = stream, number, label
                else:
                    # A stream of a lost node may be waiting for this GPU.
                    ray.kill(stream)
                if done is not None:
                    yield done
        finally:
            for stream in streams:
                ray.kill(stream)

    @property
    def _reserved(self) -> dict[str, Any]:
        """The needs as Ray's options."""
        needs = self.needs
        return {
            "num_cpus": needs.cpus,
            "num_gpus": needs.gpus or 0.0,
            "memory": needs.memory or None,
        }

    def _label(self, function: Callable[[Any], Any], item: Any) -> str:
        """The title of an item's task, for Ray's dashboard and errors."""
        return self._titled(getattr(item, "label", f"task {getattr(function, '__name__', '')}"))

    def _titled(self, what: str) -> str:
        return f"{self.of}: {what}" if self.of else what


def _outcome(reference: Any, label: str) -> Any:
    """A task's result or error: an EnsganError as it was raised there, others described by Ray."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, EnsganError):
            return cause
        return EnsganError(
            f"{label} failed on the cluster: {last_line(error)}; what was finished before is kept: "
            "run the same command again to go on from there"
        )


def check_fits(what: str, needs: Needs, nodes: Sequence[Mapping[str, float]], remedy: str) -> None:
    """Refuse what no node can ever run: Ray would wait for one in silence.

    Args:
        what: has the needs.
        nodes: resources of every living node.
        remedy: how to ask for less; ``{}`` in it becomes the resource's name.

    Raises:
        InputError: no node has that much, or none has CPUs and GPUs together.
    """
    gpus = needs.gpus or 0.0
    for resource, amount in (("CPU", needs.cpus), ("GPU", gpus)):
        # Of one node, not of the cluster: a trial or task never spans two.
        most = max((node.get(resource, 0.0) for node in nodes), default=0.0)
        if amount > most:
            raise InputError(
                f"{what} asks for {amount:g} {resource}, the cluster's largest node has {most:g}: "
                + remedy.format(resource.lower())
            )
    if not task_slots(needs, nodes):
        raise InputError(
            f"{what} asks for {needs.cpus:g} CPU and {gpus:g} GPU, and no node of the cluster has "
            "both: " + remedy.format("cpu")
        )


def reserved(needs: Needs, nodes: Sequence[Mapping[str, float]]) -> Needs:
    """What a task can reserve here: no GPU where there is none, no more memory than nodes have.

    Args:
        needs: with a share of a GPU.
        nodes: resources of every living node.
    """
    has_gpus = any(node.get("GPU", 0.0) for node in nodes)
    # A machine with less memory than asked for then runs one task at a time instead of none.
    most = int(max((node.get("memory", 0.0) for node in nodes), default=0))
    return replace(needs, gpus=needs.gpus if has_gpus else 0.0, memory=min(needs.memory, most))


def task_slots(needs: Needs, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many such tasks or trials the CPUs and GPUs of the nodes hold at once."""
    return sum(
        slots_of(needs.cpus, needs.gpus or 0.0, node.get("CPU", 0.0), node.get("GPU", 0.0))
        for node in nodes
    )
