"""Pure functions over many items on Ray: tasks on CPUs, streams of calls on GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import ray

from ensgan.cluster.resources import check_task, reserved, task_slots
from ensgan.cluster.session import node_resources
from ensgan.errors import EnsganError, last_line
from ensgan.sweep.executor import Needs

if TYPE_CHECKING:
    from ensgan.metrics import Mapper

T = TypeVar("T")
R = TypeVar("R")

TASK_RETRIES = 3
"""How often an item whose process or node was lost is run again."""
PATIENCE = 5.0
"""Seconds after which work that no GPU is free for is said to wait."""


def _ignore(waits: bool) -> None:
    """Tell nobody."""


def asked_mapper(*, cpus: float, gpus: float | None) -> Mapper:
    """:func:`task_mapper` of what a command asks for.

    Args:
        cpus, gpus: what each call reserves; fractions share a GPU. None: a whole GPU where the
            cluster has any.

    Raises:
        InputError: no node of the cluster has that much.
    """
    nodes = node_resources()
    needs = reserved(Needs(cpus, 1.0), nodes) if gpus is None else Needs(cpus, gpus)
    check_task(needs, nodes, "lower --{}s-per-task")
    return task_mapper(needs, task_slots(needs, nodes))


def task_mapper(
    needs: Needs, slots: int, *, of: str = "", on_wait: Callable[[bool], None] = _ignore
) -> Mapper:
    """A ``map`` whose calls run in the Ray session, with results as they finish.

    Args:
        needs: what each call reserves.
        slots: calls at once.
        of: the sweep, for the names of the tasks.
        on_wait: told when nothing can run because other work holds the GPUs, and when that ends.
    """

    def mapper(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for _, outcome in outcomes(function, items, needs, slots, of=of, on_wait=on_wait):
            if isinstance(outcome, EnsganError):
                raise outcome
            yield outcome

    return mapper


def outcomes(
    function: Callable[[T], R],
    items: Iterable[T],
    needs: Needs,
    slots: int,
    *,
    of: str = "",
    on_wait: Callable[[bool], None] = _ignore,
) -> Iterator[tuple[int, R | EnsganError]]:
    """The number of each item with its result or error, as they finish.

    No more are handed out than keep the cluster busy, so that arguments do not fill its memory.
    What still runs when the caller stops reading ends: on GPUs at once, on CPUs with the session.
    """
    if needs.gpus:
        return _on_gpus(function, items, needs, slots, of=of, on_wait=on_wait)
    return _on_cpus(function, items, needs, slots, of=of)


def _on_cpus(
    function: Callable[[T], R], items: Iterable[T], needs: Needs, slots: int, *, of: str = ""
) -> Iterator[tuple[int, R | EnsganError]]:
    """Every item is a task.

    None is cancelled: one that is just about to begin then ends the whole driver (seen with Ray
    2.60: "Check failed … Tried to complete task that was not pending").
    """
    task = ray.remote(function)
    options = {**_options(needs), "max_retries": TASK_RETRIES}
    if any(node.get("GPU") for node in node_resources()):
        # Ray shows a task that reserves no GPU all of them; they belong to others.
        options["runtime_env"] = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
    rest = iter(enumerate(items))
    running: dict[Any, tuple[int, str]] = {}

    def submit(count: int) -> None:
        for number, item in islice(rest, count):
            label = _label(function, item, of)
            running[task.options(name=label, **options).remote(item)] = (number, label)

    submit(2 * (1 + slots))
    while running:
        (reference,), _ = ray.wait(list(running), num_returns=1)
        number, label = running.pop(reference)
        submit(1)
        yield number, _outcome(reference, label)


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
        """Answers when the process has its GPU."""

    def run(self, item: Any) -> Any:
        return self.function(item)


def _on_gpus(
    function: Callable[[T], R],
    items: Iterable[T],
    needs: Needs,
    slots: int,
    *,
    of: str = "",
    on_wait: Callable[[bool], None] = _ignore,
) -> Iterator[tuple[int, R | EnsganError]]:
    """As many streams as there are shares of GPUs; each gets its next item when it is free.

    A stream whose GPU is busy with other work begins when that ends; the others do not wait.
    """
    kind = ray.remote(_Stream).options(
        **_options(needs), max_restarts=-1, max_task_retries=TASK_RETRIES
    )
    left = list(enumerate(items))[::-1]
    streams = [kind.remote(function, needs.gpus) for _ in range(min(len(left), slots))]
    starting = {
        stream.begin.options(name=_titled("take a GPU", of)).remote(): stream for stream in streams
    }
    running: dict[Any, tuple[Any, int, str]] = {}
    waits = False
    try:
        while left or running:
            patience = None if running or waits else PATIENCE
            ready, _ = ray.wait([*running, *starting], num_returns=1, timeout=patience)
            if waits != (not ready):
                waits = not ready
                on_wait(waits)
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
                label = _label(function, item, of)
                running[stream.run.options(name=label).remote(item)] = stream, number, label
            else:
                # Its GPU may be what a stream of a lost node waits for.
                ray.kill(stream)
            if done is not None:
                yield done
    finally:
        for stream in streams:
            ray.kill(stream)


def _options(needs: Needs) -> dict[str, Any]:
    """The needs in Ray's words."""
    return {"num_cpus": needs.cpus, "num_gpus": needs.gpus or 0.0, "memory": needs.memory or None}


def _label(function: Callable[[Any], Any], item: Any, of: str) -> str:
    """What an item is about, where it says so: shown by Ray's dashboard and in errors."""
    return _titled(getattr(item, "label", f"task {getattr(function, '__name__', '')}"), of)


def _titled(what: str, of: str) -> str:
    return f"{of}: {what}" if of else what


def _outcome(reference: Any, label: str) -> Any:
    """A task's result, or its error: our own as it was raised there, others in Ray's words."""
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
