"""A sweep started through Ray Client (``ray://HOST:PORT``) from outside the cluster.

A connection from elsewhere cannot carry the driver of a sweep: its files, its lock and Tune belong
where the storage is. So the driver runs as an actor inside the cluster, and this process only
passes the spec in and events and the result out. It ends with the connection; running the same
command again resumes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ensgan.cluster import session  # sets Ray's environment before the import below

import ray  # isort: skip

from ensgan import __version__, zoo
from ensgan.config import SweepSpec
from ensgan.errors import EnsganError, InputError
from ensgan.pipeline.budget import Budget
from ensgan.pipeline.events import Event, OnEvent
from ensgan.pipeline.results import SweepResult

SCHEME = "ray://"
POLL_SECONDS = 1.0
AS_ACTOR = {"num_cpus": 0, "max_restarts": 0, "max_concurrency": 2}
"""One thread runs the sweep, one hands out events."""


def run_through_client(
    spec: SweepSpec,
    address: str,
    *,
    storage: Path | None,
    data_dir: Path | None,
    allow_open_cluster: bool,
    budget: Budget | None,
    fresh: bool,
    on_event: OnEvent,
) -> SweepResult:
    """Run a sweep whose driver lives in the cluster; paths are those of the cluster's nodes.

    Raises:
        InputError: nobody answers, a path that only means something here, another version of
            ensgan there, or what :func:`ensgan.cluster.launch.run_sweep` finds there.
        EnsganError: the run failed, or the connection was lost.
    """
    _check_paths(address, spec, {"--storage": storage, "--data-dir": data_dir})
    with _connected(address):
        driver: Any = ray.remote(_Driver).options(**AS_ACTOR).remote(__version__)
        ending = driver.run.remote(
            spec,
            storage=storage,
            data_dir=data_dir,
            allow_open_cluster=allow_open_cluster,
            budget=budget,
            fresh=fresh,
        )
        try:
            while not ray.wait([ending], timeout=POLL_SECONDS)[0]:
                _pass_on(driver, on_event)
            _pass_on(driver, on_event)
            result: SweepResult = ray.get(ending)
        except ray.exceptions.RayTaskError as error:
            raise _own(error) from error
        except (ConnectionError, ray.exceptions.RayError) as error:
            raise EnsganError(
                f"the connection to {address} or the sweep's driver there was lost ({error}): run "
                "the same command again, it resumes"
            ) from error
        finally:
            with contextlib.suppress(ConnectionError, RuntimeError, ray.exceptions.RayError):
                ray.kill(driver)
        return result


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    """A connection by Ray Client that is closed at the end."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    session.check_answers(address.removeprefix(SCHEME), address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"no Ray Client server at '{address}': {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_paths(address: str, spec: SweepSpec, options: Mapping[str, Path | None]) -> None:
    """Refuse relative paths: the cluster's nodes have another working folder.

    Raises:
        InputError: names them.
    """
    own_data = Path(spec.dataset.name) if "/" in spec.dataset.name else None
    settings = {"dataset.data_dir": spec.dataset.data_dir, "embed.weights": spec.embed.weights}
    paths = {**options, "dataset.name": own_data}
    paths |= {name: Path(value) for name, value in settings.items() if value}
    relative = [f"{name} {path}" for name, path in paths.items() if path and not path.is_absolute()]
    if relative:
        raise InputError(
            f"{', '.join(relative)}: with {address} the sweep's driver runs in the cluster, give "
            "absolute paths of its nodes"
        )


def _pass_on(driver: Any, on_event: OnEvent) -> None:
    for event in ray.get(driver.take.remote()):
        on_event(event)


def _own(error: BaseException) -> EnsganError:
    """The error that was raised in the cluster."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, EnsganError):
        return cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return EnsganError(f"the sweep's driver failed: {lines[-1] if lines else error!r}")


class _Driver:
    """Runs the sweep and keeps its events until they are asked for."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def run(self, spec: SweepSpec, storage: Path | None, **arguments: Any) -> SweepResult:
        """See :func:`ensgan.cluster.launch.run_sweep`."""
        from ensgan.cluster.launch import run_sweep

        if self.version != __version__:
            raise InputError(
                f"the cluster has ensgan {__version__}, this machine {self.version}: install the "
                "same version"
            )
        if storage is None and not os.environ.get("ENSGAN_STORAGE"):
            raise InputError(
                "where to? The cluster's nodes have no ENSGAN_STORAGE: name --storage by an "
                "absolute path that all of them share"
            )
        for plugin in spec.train.plugins:
            zoo.load_plugin(Path(plugin))
        return run_sweep(
            spec, storage=storage, address="auto", on_event=self.events.put, **arguments
        )

    def take(self) -> list[Event]:
        """The events since the last call."""
        taken = []
        while not self.events.empty():
            taken.append(self.events.get())
        return taken
