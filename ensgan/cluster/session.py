"""Starting, joining and leaving Ray, quietly."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Read when ray is imported or a worker starts: they must be in the environment before.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# Tune would end its run as if it were done, and the sweep go on with half a pool.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
# ASHA would end the whole sweep over a trial that reports an error, or nothing, and no Intra-d.
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
# ensgan never restores from Tune's state: writing it at the end is enough.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

import ray

from ensgan.cluster.quiet import without_helpers
from ensgan.errors import EnsganError, InputError

OBJECT_STORE_BYTES = 200 * 2**20
"""Jobs pass paths, not arrays: a small object store is enough and leaves memory to training."""
CONNECT_SECONDS = 5.0
START_ATTEMPTS = 3

_HELP = "start one with `ray start --head` or `ray up ray_cluster.yaml`, or use --address local"


@contextmanager
def ray_session(address: str = "local", cpus: int | None = None) -> Iterator[None]:
    """Join a running cluster (``auto``, ``host:port``) or start one for this process.

    A Ray that this process is already connected to is used and left running.

    Raises:
        InputError: no cluster answers at the address, or it is one of Ray Client.
    """
    if ray.is_initialized():
        yield
        return
    for name, level in (("ray", logging.ERROR), ("ray.tune", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address == "local":
            _start(num_cpus=cpus, **quiet)
        else:
            _check_address(address)
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"no Ray cluster at '{address}': {error}; {_HELP}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _start(**options: Any) -> None:
    """Start Ray on this machine; a busy one can miss Ray's deadline of 30 s, so try again.

    Raises:
        EnsganError: it does not come up.
    """
    for attempt in range(START_ATTEMPTS):
        try:
            with without_helpers():
                # "local": its own one, even where another runs on this machine.
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    **options,
                )
        except Exception as error:  # Ray raises bare ones
            ray.shutdown()
            if attempt == START_ATTEMPTS - 1:
                raise EnsganError(
                    f"Ray does not start on this machine ({error}): free memory and CPU, or use "
                    "--address none, which needs no Ray"
                ) from error
        else:
            return


def _check_address(address: str) -> None:
    """Refuse what cannot work before Ray tries for a minute.

    Raises:
        InputError: Ray Client, or no host:port, or nobody listens there.
    """
    if address == "auto":
        return
    if "://" in address:
        raise InputError(
            f"'{address}': Ray Client only starts sweeps (ensgan sweep SPEC.yaml --address "
            f"{address}); run anything else inside the cluster: ray job submit --address "
            "http://127.0.0.1:8265 -- ensgan … --address auto (docs/cluster.md)"
        )
    check_answers(address, address)


def check_answers(place: str, address: str) -> None:
    """Refuse a place (``HOST:PORT``) where nobody listens; ``address`` is what the user wrote.

    Raises:
        InputError: it is no place, or nobody answers.
    """
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdigit():
        raise InputError(f"'{address}' is no address: use local, auto, HOST:PORT or none")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise InputError(
            f"no Ray cluster at '{address}': nobody answers there ({error}); {_HELP}"
        ) from error
