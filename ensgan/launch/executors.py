"""Where a command's work runs: in this process or on Ray. Commands enter a cluster only here."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ensgan.errors import InputError
from ensgan.registry import Registry

if TYPE_CHECKING:  # `ensgan score` uses this module, and needs nothing about trials
    from ensgan.cluster.budget import Budget
    from ensgan.config import ClusterSpec
    from ensgan.metrics import Mapper
    from ensgan.sweep.executor import Executor


@dataclass(frozen=True)
class ExecutorKind:
    """A way to run work without Ray, chosen by its address.

    Attributes:
        name: the address, or its part before the colon (``processes`` of ``processes:4``).
        make: the executor, from the part behind the colon.
    """

    name: str
    make: Callable[[str], Executor]


def _here(_: str) -> Executor:
    from ensgan.sweep.executor import LocalExecutor

    return LocalExecutor()


EXECUTORS = Registry("executor", "ensgan.executors", ExecutorKind, (ExecutorKind("none", _here),))


def _without_ray(address: str | None) -> Callable[[], Executor] | None:
    """What makes the executor of an address that needs no Ray; None for Ray's own addresses."""
    name, _, argument = ("none" if runs_here(address) else str(address)).partition(":")
    return partial(EXECUTORS.get(name).make, argument) if name in EXECUTORS else None


def check_address(address: str | None, budget: Budget | None = None) -> None:
    """Refuse, before any work, an address that cannot run it or cannot keep to the budget.

    Raises:
        InputError: it is no address, nobody answers there, or there is a budget but no Ray.
    """
    if _without_ray(address) is not None:
        if budget is not None:
            raise InputError(f"a budget needs Ray to end trials, and --address {address} uses none")
    elif address not in ("local", "auto"):
        from ensgan.cluster.session import check_address

        check_address(str(address))


def runs_here(address: str | None) -> bool:
    """Whether work for this address is done in this process, without Ray."""
    no_ray = address == "local" and importlib.util.find_spec("ray") is None
    return address in (None, "none") or no_ray


@contextlib.contextmanager
def executor_at(
    address: str | None,
    settings: ClusterSpec,
    tune_folder: Path,
    *,
    allow_open_cluster: bool = False,
    budget: Budget | None = None,
) -> Iterator[Executor]:
    """Ray at the address, or this process.

    Args:
        address: ``local`` starts Ray on this machine (this process does the work where Ray is not
            installed), ``auto``/``HOST:PORT`` joins a cluster, ``none`` (or None) uses no Ray, nor
            does any other name in :data:`EXECUTORS`.
        settings: how trials are scheduled.
        tune_folder: where Tune keeps its own records.
        allow_open_cluster: use a cluster that takes requests from anybody who reaches it.
        budget: what training may take; see :func:`check_address`.

    Raises:
        InputError: no such cluster, an open one, or one that cannot do the work.
    """
    make = _without_ray(address)
    if make is not None:
        yield make()
        return
    from ensgan.cluster.executor import RayExecutor
    from ensgan.cluster.session import ray_session

    assert address is not None
    with ray_session(address, allow_open_cluster=allow_open_cluster):
        # Ray's lists need its dashboard, which a session on this machine alone does without.
        yield RayExecutor(settings, tune_folder, budget, named=address != "local")


def opened_early(address: str | None, opening: Callable[[], Executor]) -> Callable[[], Executor]:
    """How to open the executor of a new sweep, so that a refusal comes before anything is written.

    Otherwise a sweep that never ran would be shown as interrupted. A cluster is joined at once; Ray
    on this machine starts later, while the store is being opened.

    Raises:
        InputError: as for :func:`executor_at`.
    """
    if address == "local" and not runs_here(address):
        from ensgan.cluster.session import check_address

        check_address(address)
        return opening
    executor = opening()
    return lambda: executor


@contextlib.contextmanager
def mapper_at(
    address: str | None,
    *,
    cpus: float = 1.0,
    gpus: float | None = None,
    allow_open_cluster: bool = False,
) -> Iterator[Mapper]:
    """A ``map`` whose calls run on Ray at the address, results as they finish; or ``map`` itself.

    Args:
        address, allow_open_cluster: as for :func:`executor_at`.
        cpus, gpus: what each call reserves; fractions share a GPU. None: a whole GPU where the
            cluster has any.

    Raises:
        InputError: as for :func:`executor_at`.
    """
    if address in (None, "none"):  # scores alone: the classifiers' libraries stay unloaded
        yield map
        return
    make = _without_ray(address)
    if make is not None:
        yield make().mapper()
        return
    from ensgan.sweep.executor import Needs

    Needs(cpus, gpus)  # refuses before a cluster is joined
    from ensgan.cluster.session import ray_session
    from ensgan.cluster.tasks import Tasks

    assert address is not None
    with ray_session(address, allow_open_cluster=allow_open_cluster):
        yield Tasks.asked(cpus=cpus, gpus=gpus).map
