"""Where a command's work runs, in this process or on Ray: the commands' only way into a cluster."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ensgan.config import ClusterSpec
from ensgan.downstream import import_libraries
from ensgan.errors import InputError
from ensgan.sweep.executor import Executor, LocalExecutor

if TYPE_CHECKING:
    from ensgan.config.budget import Budget
    from ensgan.metrics import Mapper


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
            installed), ``auto``/``HOST:PORT`` joins a cluster, ``none`` (or None) uses no Ray.
        settings: how trials are scheduled.
        tune_folder: where Tune keeps its own records.
        allow_open_cluster: use a cluster that takes requests from anybody who reaches it.
        budget: what training may take.

    Raises:
        InputError: no such cluster, an open one, one that cannot do the work, or a budget without
            Ray.
    """
    if runs_here(address):
        if budget is not None:
            raise InputError("a budget needs Ray to end trials: leave --address none out")
        import_libraries()  # classifiers run in this process: before the recorder's thread begins
        yield LocalExecutor()
        return
    from ensgan.cluster.executor import RayExecutor
    from ensgan.cluster.session import ray_session

    assert address is not None
    with ray_session(address, allow_open_cluster=allow_open_cluster):
        yield RayExecutor(settings, tune_folder, budget)


@contextlib.contextmanager
def mapper_at(
    address: str | None, *, cpus: float = 1.0, gpus: float = 0.0, allow_open_cluster: bool = False
) -> Iterator[Mapper]:
    """A ``map`` whose calls run on Ray at the address, results as they finish; or ``map`` itself.

    Args:
        address, allow_open_cluster: as for :func:`executor_at`.
        cpus, gpus: what each call reserves; fractions share a GPU.

    Raises:
        InputError: as for :func:`executor_at`.
    """
    if address in (None, "none"):
        yield map
        return
    for name, amount in (("cpus", cpus), ("gpus", gpus)):
        if not 0 <= amount < float("inf") or (name == "cpus" and amount == 0):
            raise InputError(f"{name} per task is {amount:g}: it must be above 0")
    from ensgan.cluster.executor import task_mapper
    from ensgan.cluster.session import ray_session

    assert address is not None
    with ray_session(address, allow_open_cluster=allow_open_cluster):
        yield task_mapper(cpus=cpus, gpus=gpus)
