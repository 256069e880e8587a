"""Starting, joining and leaving Ray, quietly."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Read when ray is imported or a worker starts: they must be in the environment before.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray

from ensgan.errors import InputError

OBJECT_STORE_BYTES = 200 * 2**20
"""Jobs pass paths, not arrays: a small object store is enough and leaves memory to training."""


@contextmanager
def ray_session(address: str = "local", cpus: int | None = None) -> Iterator[None]:
    """Join a running cluster (``auto``, ``ray://host:port``) or start one for this process.

    A Ray that this process is already connected to is used and left running.

    Raises:
        InputError: no cluster answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address == "local":
            ray.init(
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Ray cluster at '{address}': {error}; start one with `ray start --head` or "
            "`ray up ray_cluster.yaml`, or use --address local"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
