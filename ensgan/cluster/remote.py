"""A sweep started from outside of a cluster (``ray://``): its driver runs on the head.

Ray Client cannot carry a sweep's driver, whose lock, manifest and callbacks must live where the
storage is. So the client only asks an actor on the head to run ``ensgan sweep`` there and reads
what that prints. The actor outlives the connection: the same command finds it again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ensgan.cluster import session  # sets Ray's environment before the import below

import ray  # isort: skip

from ensgan.cluster.head import HeadDriver, RemoteSweep
from ensgan.errors import EnsganError, InputError, last_line
from ensgan.sweep.events import Event, OnEvent
from ensgan.sweep.sweep_file import files_beside, load_sweep

SCHEME = "ray://"
NAMESPACE = "ensgan"
POLL_SECONDS = 0.5
CONNECT_ATTEMPTS = 3

__all__ = ["SCHEME", "pack", "run_on_head", "session"]


def pack(
    path: Path, settings: Sequence[str], paths: Mapping[str, Path | None], options: Sequence[str]
) -> RemoteSweep:
    """Check a sweep file here and take along what the head needs of it.

    Args:
        path: the sweep file.
        settings: ``a.b=value`` overrides.
        paths: options that are folders of the cluster, such as ``--storage``.
        options: all other arguments.

    Raises:
        ConfigError: with every problem of the file and the settings.
        InputError: a folder or file that the head could not find.
    """
    spec = load_sweep(path, settings)
    given = {name: value for name, value in paths.items() if value is not None}
    for name, value in given.items():
        if not value.is_absolute():
            raise InputError(
                f"{name} {value}: give the absolute path that the nodes of the cluster see"
            )
    files = {path.name: path.read_bytes()}
    for beside in files_beside(path):
        files[beside] = _travelling(path.parent, beside)
    arguments = [*(f"--set={setting}" for setting in settings), *options]
    arguments += [text for name, value in given.items() for text in (name, str(value))]
    return RemoteSweep(spec.name, files, tuple(arguments), "--storage" in given)


def _travelling(folder: Path, name: str) -> bytes:
    """A file beside the sweep file.

    Raises:
        InputError: it is a folder, or not below the sweep file's.
    """
    if ".." in PurePosixPath(name).parts or not (folder / name).is_file():
        raise InputError(
            f"'{name}' of the sweep file is no file beside it, so it cannot be sent to the head: "
            "give an absolute path that the nodes of the cluster see"
        )
    return (folder / name).read_bytes()


def run_on_head(address: str, sweep: RemoteSweep, on_event: OnEvent) -> dict[str, Any]:
    """Run a sweep on the head of the cluster behind ``ray://HOST:PORT``; its last event's fields.

    When the connection is lost the sweep goes on; the same request watches it again, from its
    beginning. An interrupt stops the sweep.

    Raises:
        InputError: no such cluster, another request for that sweep runs there, or the head
            refuses the sweep.
        EnsganError: the sweep, its driver or the connection failed.
    """
    with _client(address):
        driver = _driver_of(sweep)
        try:
            code, said, done = _watch(driver, on_event)
        except KeyboardInterrupt:
            ray.get(driver.stop.remote())
            ray.kill(driver)
            raise
        except ray.exceptions.RayActorError as error:
            raise EnsganError(
                f"the driver of sweep '{sweep.name}' was lost ({error}): run the same command "
                "again, it resumes"
            ) from error
        except (ConnectionError, RuntimeError) as error:
            raise EnsganError(
                f"lost the connection to {address} ({error}): the sweep goes on there; run the "
                "same command again to watch it"
            ) from error
        ray.get(driver.close.remote())
        ray.kill(driver)
    if done is not None:
        return done
    raise (InputError if code == 2 else EnsganError)(_reason(said, code))


@contextlib.contextmanager
def _client(address: str) -> Iterator[None]:
    session.check_answers(address.removeprefix(SCHEME), address)
    for name in ("ray", "ray.util.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for attempt in range(CONNECT_ATTEMPTS):
        try:
            ray.init(address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            # A head that trains can take too long to start the process of one more client.
            if "server failed" not in str(error) or attempt == CONNECT_ATTEMPTS - 1:
                raise InputError(
                    f"no Ray Client server answers at '{address}': {last_line(error)}"
                ) from error
        else:
            break
    try:
        yield
    finally:
        ray.shutdown()


def _driver_of(sweep: RemoteSweep) -> Any:
    """The actor that runs this sweep: one that already does, or a new one.

    Raises:
        InputError: it runs another request for a sweep of that name, or cannot start this one.
    """
    remote = ray.remote(HeadDriver).options(
        name=f"sweep {sweep.name}",
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_concurrency=4,
        resources={"node:__internal_head__": 0.001},
    )
    driver: Any = remote.remote()
    refusal = ray.get(driver.start.remote(sweep))
    if refusal is not None:
        if ray.get(driver.is_idle.remote()):
            ray.kill(driver)
        raise InputError(refusal)
    return driver


def _watch(driver: Any, on_event: OnEvent) -> tuple[int, list[str], dict[str, Any] | None]:
    """Pass on the driver's events until it ends; exit code, stderr, fields of the last event."""
    seen, done = -1, None
    while True:
        events, code, said = ray.get(driver.news.remote(seen))
        for number, line in events:
            seen = number
            fields = json.loads(line)
            event = Event(fields.pop("event"), fields)
            if event.kind == "done":
                done = dict(event.fields)
            else:
                on_event(event)
        if code is not None:
            return code, said, done
        time.sleep(POLL_SECONDS)


def _reason(said: Sequence[str], code: int) -> str:
    """What the command on the head gave as its reason."""
    reasons = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    return reasons[-1] if reasons else f"the sweep ended with code {code}: {' '.join(said[-3:])}"
